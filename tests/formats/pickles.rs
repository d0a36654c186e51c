//! Pickled NumPy arrays: `.pkl` files, object arrays of `.npy` and `.npz`. NumPy and Python are the
//! judges; nothing is ever run.

use crate::support::{self, Scratch, at, fixture, npk, npk_any, npk_fails};

fn file(name: &str) -> String {
    fixture(&format!("good/pkl/{name}")).display().to_string()
}

#[test]
fn arrays_in_dicts_lists_and_tuples_are_read() {
    for protocol in [0, 2, 3, 4, 5] {
        let name = format!("nested{protocol}.pkl");
        let listed = npk(&["list", "-l", &file(&name)]);
        assert_eq!(
            listed.lines().collect::<Vec<_>>(),
            [
                "model.weights.0\tfloat64\t2x3\t48",
                "model.weights.1\tint16\t2x2\t8",
                "ids\tint64\t3\t24",
                "when\tdatetime64[s]\t1\t8",
                "names\tstring\t2\t24",
                "records.x\tint32\t2\t8",
                "records.y\tfloat64\t2\t16",
                "number\tfloat32\tscalar\t4",
            ],
            "{name}"
        );
        let s = Scratch::new();
        npk(&["convert", "-q", &file(&name), &at(&s, "o.npk")]);
        npk(&["diff", &at(&s, "o.npk"), &file("nested4.pkl")]);
        npk(&["verify", &file(&name)]);
        let document = support::inspect(&fixture(&format!("good/pkl/{name}")));
        assert_eq!(document["metadata"]["epoch"], 7);
        assert_eq!(document["metadata"]["model.kind"], "dense");
    }
    // An array alone is called as its file.
    assert_eq!(npk(&["list", "-l", &file("alone.pickle")]), "alone\tfloat32\t2x2\t16\n");
}

#[test]
fn object_arrays_of_npy_and_npz_become_what_they_hold() {
    let s = Scratch::new();
    let npz = file("objects.npz");
    let listed = npk(&["list", "-l", &npz]);
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        [
            "text\tstring\t3\t5",
            "bytes\tbinary\t2\t3",
            "ints\tint64\t2x2\t32",
            "floats\tfloat64\t2\t16",
            "ragged.0\tint64\t1\t8",
            "ragged.1\tint64\t2\t16",
            "plain\tfloat64\t3\t24",
        ]
    );
    npk(&["convert", "-q", &npz, &at(&s, "o.npk")]);
    npk(&["convert", "-q", &file("deflated.npz"), &at(&s, "d.npk")]);
    npk(&["diff", &at(&s, "o.npk"), &at(&s, "d.npk")]);
    npk(&["convert", "-q", &file("text.npy"), &at(&s, "t.csv"), "--header", "no"]);
    assert_eq!(std::fs::read_to_string(s.join("t.csv")).unwrap(), "a\nüü\n\"\"\n");
    npk(&["verify", &npz]);
}

#[test]
fn what_is_not_arrays_is_refused_by_name() {
    let s = Scratch::new();
    let fails = |name: &str, says: &str| {
        let bad = fixture(&format!("bad/pkl/{name}")).display().to_string();
        let said = npk_fails(4, &["convert", &bad, &at(&s, "o.npk")]);
        assert!(said.contains(says), "{name}: {said}");
        assert!(s.names().is_empty(), "{name}");
    };
    fails("system.pkl", "the pickle names 'posix.system'");
    fails("frame.pkl", "the pickle names 'pandas.");
    fails("mixed.pkl", "an object array of whole numbers (element 0) and text (element 1)");
    let left = npk_any(&[
        "convert",
        &fixture("bad/pkl/mixed.pkl").display().to_string(),
        &at(&s, "o.npk"),
        "--skip-unsupported",
    ]);
    assert_eq!(left.status.code(), Some(0), "{}", String::from_utf8_lossy(&left.stderr));
}

/// Every dtype, order and protocol, as numpy loads it.
#[test]
#[ignore = "asks the real libraries"]
fn pickles_read_as_python_loads_them() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import numpy as np, pickle
rng = np.random.default_rng(3)
all = {}
for t in ['?', 'i1', '<i2', '>i4', '<u8', '<f2', '>f4', '<f8', '<c8', '>c16', 'M8[ns]', 'm8[25s]', 'S3', '<U4', '>U2']:
    for i, shape in enumerate([(), (3,), (4, 5), (2, 3, 4), (0, 2)]):
        a = rng.integers(0, 100, shape)
        a = np.char.mod('%d', a).astype(t) if t[-2:-1] in ('S', 'U') else np.asarray(a).astype(t)
        all[f'{t}_{i}'] = a
        if i == 2: all[f'{t}_f'] = np.asfortranarray(a); all[f'{t}_t'] = a.T; all[f'{t}_v'] = a[::2, 1:]
all['record'] = np.array([(1, 2.5, 'ab'), (3, 4.5, 'c')], np.dtype([('x', '>i2'), ('y', 'f8'), ('z', 'U2')], align=True))
all['inner'] = np.zeros(3, [('a', 'i4', (2, 2)), ('b', [('c', 'u1'), ('d', 'f4')])])
np.savez('want.npz', **all)
for p in range(6):
    with open(f'p{p}.pkl', 'wb') as f: pickle.dump(all, f, p)
"#,
    );
    for p in 0..6 {
        let (input, out) = (at(&s, &format!("p{p}.pkl")), at(&s, &format!("p{p}.npk")));
        npk(&["convert", "-q", &input, &out, "-m", "16MiB"]);
        npk(&["diff", &out, &at(&s, "want.npz")]);
    }
}
