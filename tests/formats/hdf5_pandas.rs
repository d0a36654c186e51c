//! pandas' tables in HDF5: time zones and categories, with pandas as the judge.

use crate::support::{self, Scratch, at, npk, npk_any, npk_fails};

const FRAMES: &str = r#"
import pandas as pd, numpy as np
n = 6
df = pd.DataFrame({
    'x': np.arange(n) * 1.5,
    'cat': pd.Categorical(['a', 'b', None, 'a', 'c', 'b'], categories=['c', 'a', 'b', 'unused']),
    'ord': pd.Categorical(['lo', 'hi', 'lo', 'hi', 'lo', 'lo'], categories=['lo', 'hi'], ordered=True),
    'utc': pd.date_range('2020', periods=n, tz='UTC'),
    'berlin': pd.date_range('2020-03-29', periods=n, freq='h', tz='Europe/Berlin'),
    'gap': pd.DatetimeIndex(['2020-01-01', None, '2020-01-03', None, '2020-01-05', '2020-01-06'], tz='US/Eastern'),
    'fixed': pd.date_range('2020', periods=n, tz=__import__('datetime').timezone(__import__('datetime').timedelta(hours=5, minutes=30))),
    's': list('uvwxyz'), 'flag': np.arange(n) % 2 == 0})
df.to_hdf('table.h5', key='df', format='table')
df.drop(columns=['fixed']).to_hdf('columns.h5', key='df', format='table', data_columns=True)
df.set_index('berlin').to_hdf('index.h5', key='df', format='table')
df.drop(columns=['cat', 'ord', 's']).to_hdf('fixed.h5', key='df', format='fixed')
df['cat'].to_hdf('series.h5', key='s', format='table')
df['gap'].to_hdf('series_fixed.h5', key='s', format='fixed')
df[['x', 'cat']].to_hdf('two.h5', key='one', format='table'); df[['x', 'utc']].to_hdf('two.h5', key='two', format='table')
mi = df[['x']].copy(); mi.index = pd.MultiIndex.from_product([['p', 'q'], [1, 2, 3]], names=['l', 'm'])
mi.to_hdf('levels.h5', key='df', format='fixed')
"#;

#[test]
#[ignore = "asks the real libraries"]
fn zones_and_categories_are_kept() {
    let s = Scratch::new();
    support::python(s.path(), FRAMES);
    for (name, key) in [
        ("table", "df"),
        ("columns", "df"),
        ("index", "df"),
        ("fixed", "df"),
        ("series", "s"),
        ("series_fixed", "s"),
    ] {
        let file = at(&s, &format!("{name}.h5"));
        let output = npk_any(&["convert", "-f", &file, &at(&s, "o.parquet")]);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("not kept"),
            "{name}: {output:?}"
        );
        support::python(
            s.path(),
            &format!(
                r#"
import pandas as pd
a, b = pd.read_hdf('{name}.h5', '{key}'), pd.read_parquet('o.parquet')
a = a.to_frame() if isinstance(a, pd.Series) else a
if a.index.name: b = b.reset_index() if a.index.name in (b.index.names or []) else b; a = a.reset_index()
for c in a:
    x, y = a[c], b[c]
    assert (x.isna() == y.isna()).all() and (x[x.notna()].astype(object).values == y[y.notna()].astype(object).values).all(), (c, x, y)
    if x.dtype == 'category':
        assert list(x.cat.categories) == list(y.cat.categories) and x.cat.ordered == y.cat.ordered, (c, x.dtype, y.dtype)
    if hasattr(x.dtype, 'tz'):
        assert x.iloc[0].utcoffset() == y.iloc[0].utcoffset() and hasattr(y.dtype, 'tz'), (c, x.dtype, y.dtype)
        assert c == 'fixed' or str(x.dtype.tz) == str(y.dtype.tz), (c, x.dtype, y.dtype)
"#
            ),
        );
        // And in a store, and back.
        npk(&["convert", "-f", &file, &at(&s, "o.npk"), "--verify"]);
    }
    let names = npk(&["list", &at(&s, "two.h5")]);
    assert_eq!(names, "one/index\none/x\none/cat\ntwo/index\ntwo/x\ntwo/utc\n");
    // A frame that is not understood is told.
    let output = npk_any(&["convert", &at(&s, "levels.h5"), &at(&s, "l.npk")]);
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("the frame of pandas in df is not understood"),
        "{output:?}"
    );
}

const MISSING_TEXTS: &str = r#"
import pandas as pd, h5py
df = pd.DataFrame({'x': [1, 2, 3], 's': ['a', None, 'nan'], 't': ['', 'nan', 'c'], 'u': [None, 'a', 'b']})
table = dict(key='df', mode='w', format='table')
df.to_hdf('own.h5', data_columns=['s'], **table)
df.to_hdf('named.h5', nan_rep='a', **table)
df.to_hdf('empty.h5', nan_rep='', **table)
df['s'].to_hdf('series.h5', **table)
keyed = df[['x']].set_index(pd.Index(['a', None, 'nan'], name='k'))
keyed.to_hdf('index.h5', **table)
keyed.to_hdf('fixed.h5', key='df', mode='w', format='fixed')
keyed.set_index(pd.Index(['a', 'b', 'nan'], name='k')).to_hdf('whole.h5', **table)
levels = pd.MultiIndex.from_arrays([['a', None, 'nan'], [1, 2, 3]], names=['l', 'm'])
df[['s']].set_index(levels).to_hdf('levels.h5', nan_rep='NULL', **table)
# What pandas wrote before 3.1: no word about the missing texts of columns.
df.to_hdf('before.h5', **table)
with h5py.File('before.h5', 'r+') as f:
    del f['df'].attrs['data_col_nan_rep'], f['df'].attrs['mi_level_nan_rep']
"#;

#[test]
#[ignore = "asks the real libraries"]
fn missing_texts_are_nulls() {
    let s = Scratch::new();
    support::python(s.path(), MISSING_TEXTS);
    for name in ["own", "named", "empty", "series", "index", "fixed", "whole", "levels", "before"] {
        npk(&["convert", "-f", &at(&s, &format!("{name}.h5")), &at(&s, "o.parquet"), "--verify"]);
        support::python(
            s.path(),
            &format!(
                r#"
import pandas as pd
a, b = pd.read_hdf('{name}.h5', 'df'), pd.read_parquet('o.parquet')
a = (a.to_frame() if isinstance(a, pd.Series) else a).reset_index()
for c in a:
    x, y = [[None if pd.isna(v) else v for v in z[c]] for z in (a, b)]
    assert x == y, (c, x, y)
"#
            ),
        );
    }
}

/// Text of the fixed layout is a pickle: it is named as that, whatever the output is.
#[test]
#[ignore = "asks the real libraries"]
fn pickled_text_is_refused_by_name() {
    let s = Scratch::new();
    support::python(
        s.path(),
        "import pandas as pd\n\
         df = pd.DataFrame({'x': [1, 2, 3], 's': ['a', None, 'b']})\n\
         df.to_hdf('frame.h5', key='df', mode='w', format='fixed')\n\
         df['s'].to_hdf('series.h5', key='df', mode='w', format='fixed')\n",
    );
    for name in ["frame", "series"] {
        for end in ["parquet", "npk"] {
            let (file, out) = (at(&s, &format!("{name}.h5")), at(&s, &format!("{name}.{end}")));
            let said = npk_fails(4, &["convert", &file, &out]);
            assert!(said.contains("s: a pickled object of pandas is never loaded"), "{said}");
            npk(&["convert", &file, &out, "--skip-unsupported"]);
        }
    }
}
