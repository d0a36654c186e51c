//! The types of npy headers, however they are spelled, against numpy.dtype itself.

use npk::codec::numpy_elements::{ElementType, RecordField, leaves};
use npk::codec::numpy_types::Descr;
use npk::error::ErrorKind;
use npk::model::{Dtype, Logical};

use crate::support::library::{drain, read_all};
use crate::support::{Scratch, at, fixture, npk, npk_fails, python};

/// Spellings that numpy takes, and some that it does not.
const SPELLINGS: &str = r#"
names = '''bool bool_ int8 byte uint8 ubyte int16 short uint16 ushort int32 intc uint32 uintc int64 long longlong intp int_ int
uint64 ulong ulonglong uintp uint float16 half float32 single float64 double float longdouble float128 complex64 csingle
complex128 cdouble complex clongdouble complex256 bytes_ bytes str_ str unicode void object object_ datetime64 timedelta64
Bool Int32 FLOAT64 string int0 float_ complex_ unicode_ string_ bfloat16 float8_e4m3fn np.float64 int64_t StringDType'''.split()
letters = list('?bBhHiIlLqQpPnNefdgFDGSaUVcOMmTuxyzZ')
sized = [k + n for k in '?bBhHiuIlLqQpPefdgFDcSaUVOMm' for n in '0 1 2 3 4 5 8 10 12 16 32 64 08 +4 -4'.split()] + ['i 4', 'f\t8', 'i4 ', ' i4', 'U 7', 'i4\n']
units = 'Y M W D h m s ms us μs ns ps fs as generic B month'.split()
times = [p + f'[{n}{u}]' for p in ['M8', 'm8', 'datetime64', 'timedelta64'] for n in ['', '1', '2', '25'] for u in units]
times += ['M8[]', 'M8[ns', 'M8[ns]x', 'M8ns', 'm8[25s/4]', 'M8[D/24]', 'M8[Y/5]', 'M8[3us/8]', 'M8[as/2]', 'M8[s/7]']
lists = ['i4,f8', 'i4, f8', '>i4 , <f8', 'i4,', 'float64,int,U3', 'M8[ns],S2', '2i4', '<2i4', '2>i4', '>(2,3)f8', '(2,3)i4,f8', '(2,)i4', '()i4', '1f4,(1,)f4',
         '3,i4', '0i4,f4', 'i4,,f8', ',i4', '<2>i4', 'i4;f8', 'i4,x', '(2,i4', 'i4 f8', '2', 'int[3]', '(2)i4,f8', 'i4,f8 ', '4']
orders = [o + s for o in '<>=|!@' for s in names[:8] + letters + sized[:60] + ['M8[ns]', 'datetime64[D]', 'U5', 'S5', 'f8', '']]
spellings = list(dict.fromkeys(names + letters + sized + times + lists + orders))
"#;

/// A type as numpy's `descr` says it.
fn told(descr: &Descr) -> Option<String> {
    let (leaves, bytes) = leaves(descr).ok()?;
    let one = |leaf: &RecordField| {
        let unit = |u: &npk::model::TimeUnit| {
            if u.base == "generic" { String::new() } else { format!("[{u}]") }
        };
        let kind = match &leaf.item.kind {
            ElementType::Fixed(_, Logical::Datetime(u)) => format!("M8{}", unit(u)),
            ElementType::Fixed(_, Logical::Timedelta(u)) => format!("m8{}", unit(u)),
            ElementType::Fixed(Dtype::Bool, _) => "b1".into(),
            ElementType::Fixed(d, _) if d.is_complex() => format!("c{}", d.item_bytes()),
            ElementType::Fixed(d, _) if d.is_float() => format!("f{}", d.item_bytes()),
            ElementType::Fixed(d, _) => {
                format!("{}{}", if d.name().starts_with('u') { 'u' } else { 'i' }, d.item_bytes())
            }
            ElementType::Text => format!("U{}", leaf.item.bytes / 4),
            ElementType::Bytes => format!("S{}", leaf.item.bytes),
            ElementType::Refused { sized: false, .. } => "O".into(),
            ElementType::Refused { why, .. } if why.contains("long double") => {
                format!("g{}", leaf.item.bytes)
            }
            ElementType::Refused { .. } => format!("V{}", leaf.item.bytes),
        };
        let order = if leaf.item.swap_bytes > 0 { ">" } else { "" };
        format!("{}@{}:{order}{kind}{:?}", leaf.name, leaf.offset, leaf.dims)
    };
    Some(format!("{bytes} {}", leaves.iter().map(one).collect::<Vec<_>>().join(" ")))
}

#[test]
#[ignore = "asks the real libraries"]
fn every_spelling_means_what_it_means_to_numpy() {
    let dir = Scratch::new();
    let code = r#"
import json, numpy as np, warnings
warnings.simplefilter('ignore')
def told(d):
    def one(name, offset, d):
        dims = []
        while d.subdtype: d, shape = d.subdtype; dims += shape
        k = d.kind
        s = d.str[1:] if k in 'biufcMm' else f'U{d.itemsize // 4}' if k == 'U' else 'O' if k in 'OT' else f'{k}{d.itemsize}'
        if d.char in 'gG': s = f'g{d.itemsize}'
        big = '>' if d.str[0] == '>' and d.char not in 'gG' else ''
        return f'{name}@{offset}:{big}{s}{dims}'
    fields = [(n, d.fields[n][1], d.fields[n][0]) for n in d.names] if d.names else [('', 0, d)]
    return f'{d.itemsize if all(f[2].kind not in "OT" for f in fields) else sum(0 if f[2].kind in "OT" else f[2].itemsize for f in fields)} ' + ' '.join(one(*f) for f in fields)
out = []
for s in spellings:
    try: d = np.dtype(s)
    except Exception: d = None
    out.append((s, d and told(d)))
json.dump(out, open('told.json', 'w'))
"#;
    python(dir.path(), &format!("{SPELLINGS}\n{code}"));
    let all: Vec<(String, Option<String>)> =
        serde_json::from_slice(&std::fs::read(dir.join("told.json")).unwrap()).unwrap();
    assert!(
        all.len() > 900 && all.iter().filter(|(_, t)| t.is_some()).count() > 400,
        "{}",
        all.len()
    );
    let mut wrong = Vec::new();
    for (spelling, want) in &all {
        let got = npk::codec::numpy_types::descr(spelling).ok().and_then(|d| told(&d));
        // Long doubles of other machines are known, to be refused by name.
        let other_machine = want.is_none()
            && got
                .as_ref()
                .is_some_and(|g| g.contains(":g10") || g.contains(":g12") || g.contains(":g2"));
        if got != *want && !other_machine {
            wrong.push(format!("{spelling:?}: {got:?}, numpy says {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

/// What numpy.load reads from headers that name their type in words.
#[test]
#[ignore = "asks the real libraries"]
fn headers_that_name_their_type_are_read() {
    let dir = Scratch::new();
    let code = r#"
import json, numpy as np
want = {}
def header(descr, shape):
    h = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    h += b' ' * (-(10 + len(h) + 1) % 64) + b'\n'
    return b'\x93NUMPY\x01\x00' + len(h).to_bytes(2, 'little') + h
for i, s in enumerate(['float64', 'int32', '<i', '>d', '=f4', 'half', 'bool', 'uint', 'complex', 'datetime64[ns]', '?', 'q', 'i 4', 'short', '>M8[D]', '|i2']):
    d = np.dtype(s)
    a = np.arange(6).astype(d).reshape(2, 3)
    open(f'{i}.npy', 'wb').write(header(s, (2, 3)) + a.tobytes())
    back = np.load(f'{i}.npy')
    assert back.dtype == d and (back == a).all()
    back.astype(d.newbyteorder('<')).tofile(f'{i}.bin')
open('fields.npy', 'wb').write(header('i4, (2,)>f8', (2,)) + np.zeros(2, 'i4,(2,)>f8').tobytes())
open('named.npy', 'wb').write(header([('x', 'float32'), ('y', 'int')], (2,)) + np.zeros(2, [('x', 'float32'), ('y', 'int')]).tobytes())
"#;
    python(dir.path(), code);
    for i in 0..16 {
        let mut got = Vec::new();
        drain("npy", &dir.join(&format!("{i}.npy")), &mut |chunk| {
            let npk::model::Values::Fixed(values) = &chunk.values else { panic!() };
            got.extend_from_slice(values);
        })
        .unwrap_or_else(|e| panic!("{i}: {e}"));
        assert!(got == std::fs::read(dir.join(&format!("{i}.bin"))).unwrap(), "{i}");
    }
    let shapes = |file: &str| -> Vec<_> {
        let plan = read_all("npy", &dir.join(file)).unwrap();
        plan.arrays.iter().map(|a| (a.name.clone(), a.type_name(), a.shape().unwrap())).collect()
    };
    let of = |name: &str, dtype: &str, shape: &[u64]| {
        (name.to_string(), dtype.to_string(), shape.to_vec())
    };
    assert_eq!(
        shapes("fields.npy"),
        [of("fields.f0", "int32", &[2]), of("fields.f1", "float64", &[2, 2])]
    );
    assert_eq!(shapes("named.npy"), [of("named.x", "float32", &[2]), of("named.y", "int64", &[2])]);
    let error = read_all("npy", &fixture("bad/npy/long_double.npy")).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Refused && error.message().contains("long double"),
        "{error}"
    );
}

/// numpy's text of any length is a list of texts; a type without fields is a whole file without
/// values; a table says of an array that cannot be read why that is.
#[test]
#[ignore = "asks the real libraries"]
fn types_without_a_size() {
    let s = Scratch::new();
    python(
        s.path(),
        r#"
import warnings, numpy as np; warnings.simplefilter('ignore')
if np.lib.NumpyVersion(np.__version__) >= '2.0.0':
    np.save('text.npy', np.array([['a', 'größer'], ['', 'b\0c']], np.dtypes.StringDType()))
else:
    np.save('text.npy', np.array([['a', 'größer'], ['', 'b\0c']], object))
np.save('none.npy', np.zeros(2, np.dtype([])))
np.savez('mixed.npz', a=np.array(['x', 1.5, [2]], object), n=np.arange(3))
"#,
    );
    npk(&["convert", "-q", &at(&s, "text.npy"), &at(&s, "text.zarr")]);
    let read = r#"
import zarr
z = zarr.open('text.zarr', mode='r')
print((z if hasattr(z, 'shape') else z['text'])[...].tolist())
"#;
    assert_eq!(python(s.path(), read).trim(), r"[['a', 'größer'], ['', 'b\x00c']]");
    let error = npk_fails(4, &["convert", &at(&s, "none.npy"), &at(&s, "none.npk")]);
    assert!(error.contains("the element type has no fields"), "{error}");
    let error = npk_fails(4, &["convert", &at(&s, "mixed.npz"), &at(&s, "mixed.parquet")]);
    assert!(error.contains("mixed.npz: a: ") && !error.contains("row counts"), "{error}");
}
