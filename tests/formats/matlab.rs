//! MATLAB files before version 7.3, with SciPy as the judge.

use crate::support::{self, Scratch, at, fixture, fixtures, npk, npk_any, npk_fails};

/// What `list -l` says of a fixture.
fn listed(name: &str) -> String {
    npk(&["list", "-l", &fixture(&format!("good/mat/{name}")).display().to_string()])
}

/// The values of one array of a fixture, as text.
fn values(name: &str, array: &str) -> String {
    let s = Scratch::new();
    let file = fixture(&format!("good/mat/{name}")).display().to_string();
    npk(&["convert", "-q", &file, &at(&s, "o.csv"), "-a", array, "--header", "no"]);
    std::fs::read_to_string(s.join("o.csv")).unwrap()
}

#[test]
fn numbers_come_out_in_c_order_with_their_class_and_shape() {
    for file in ["testmatrix_4.2c_SOL2.mat", "testmatrix_6.1_SOL2.mat", "testmatrix_7.4_GLNX86.mat"]
    {
        assert_eq!(listed(file), "testmatrix\tfloat64\t3x5\t120\n", "{file}");
        assert_eq!(
            values(file, "testmatrix"),
            "1.0,2.0,3.0,4.0,5.0\n2.0,0.0,0.0,0.0,0.0\n3.0,0.0,0.0,0.0,0.0\n",
            "{file}"
        );
    }
    assert_eq!(listed("test3dmatrix_7.1_GLNX86.mat"), "test3dmatrix\tfloat64\t2x3x4\t192\n");
    assert_eq!(listed("testcomplex_7.1_GLNX86.mat"), "testcomplex\tcomplex128\t1x9\t144\n");
    assert_eq!(listed("testbool_8_WIN64.mat"), "testbools\tbool\t2x1\t2\n");
    assert_eq!(values("testbool_8_WIN64.mat", "testbools"), "True\nFalse\n");
    assert_eq!(
        listed("types.mat").lines().filter(|l| l.starts_with("n_")).collect::<Vec<_>>(),
        [
            "n_float32\tfloat32\t2x3\t24",
            "n_float64\tfloat64\t2x3\t48",
            "n_int16\tint16\t2x3\t12",
            "n_int32\tint32\t2x3\t24",
            "n_int64\tint64\t2x3\t48",
            "n_int8\tint8\t2x3\t6",
            "n_uint16\tuint16\t2x3\t12",
            "n_uint32\tuint32\t2x3\t24",
            "n_uint64\tuint64\t2x3\t48",
            "n_uint8\tuint8\t2x3\t6",
        ]
    );
    assert_eq!(
        values("types.mat", "n_int64"),
        "-9223372036854775808,1,2\n3,4,9223372036854775807\n"
    );
    assert_eq!(values("packed.mat", "n_int64"), values("types.mat", "n_int64"));
}

#[test]
fn text_sparse_structs_and_cells_become_arrays() {
    assert_eq!(values("teststringarray_7.1_GLNX86.mat", "*"), "one  \ntwo  \nthree\n");
    assert_eq!(values("testunicode_7.4_GLNX86.mat", "*").chars().filter(|c| *c == '人').count(), 2);
    for (file, shape) in [
        ("testsparse_4.2c_SOL2.mat", "float64"),
        ("testsparsecomplex_7.4_GLNX86.mat", "complex128"),
    ] {
        let name = file.split('_').next().unwrap();
        let all = listed(file);
        let lines: Vec<&str> = all.lines().collect();
        assert!(lines[0].starts_with(&format!("{name}.data\t{shape}\t")), "{all}");
        assert!(lines[1].starts_with(&format!("{name}.indices\tint32\t")), "{all}");
        assert_eq!(lines[3], format!("{name}.shape\tint64\t2\t16"));
        assert_eq!(values(file, &format!("{name}.shape")), "3\n5\n");
    }
    assert_eq!(
        listed("teststructnest_7.4_GLNX86.mat"),
        "teststructnest.one\tfloat64\t1x1\t8\nteststructnest.two.three\tstring\t1\t8\n"
    );
    let array = listed("teststructarr_7.4_GLNX86.mat");
    assert!(
        array.starts_with("teststructarr.0.one\t") && array.contains("\nteststructarr.1.two\t")
    );
    let cells =
        npk(&["list", &fixture("good/mat/testcellnest_7.4_GLNX86.mat").display().to_string()]);
    assert_eq!(
        cells,
        "testcellnest.0\ntestcellnest.1.0\ntestcellnest.1.1\ntestcellnest.1.2.0\ntestcellnest.1.2.1\n"
    );
    // A cell of lines is one array of text; a cell of two dimensions is counted in C order.
    assert_eq!(values("types.mat", "labels"), "a,b,\"\"\nccc,ü,e e\n");
    let all = npk(&["list", &fixture("good/mat/types.mat").display().to_string()]);
    let cell: Vec<&str> = all.lines().filter(|l| l.starts_with("cell.")).collect();
    assert_eq!(cell, ["cell.0", "cell.2", "cell.1", "cell.3"]);
    assert_eq!(values("types.mat", "cell.1"), "1.0\n");
}

/// What is not read is named, and the rest can be had.
#[test]
fn function_handles_and_opaque_objects_are_refused_by_name() {
    let s = Scratch::new();
    let file = fixture("good/mat/parabola.mat").display().to_string();
    let said = npk_fails(4, &["convert", &file, &at(&s, "o.npk")]);
    assert!(said.contains("parabola: it is a function handle"), "{said}");
    let note = npk_any(&["list", "-l", &file]);
    assert_eq!(note.status.code(), Some(0));
    let duplicates = fixture("good/mat/nasty_duplicate_fieldnames.mat").display().to_string();
    npk_fails(4, &["convert", &duplicates, &at(&s, "o.npk")]);
    npk(&["convert", &duplicates, &at(&s, "o.npk"), "--on-duplicate", "rename"]);
}

/// Version 7.3 is HDF5 behind a block that says so.
#[test]
fn version_7_3_is_hdf5() {
    let s = Scratch::new();
    let hdf5 = std::fs::read(fixture("good/hdf5/h5py_new.h5")).unwrap();
    let mut file = format!("{:<116}", "MATLAB 7.3 MAT-file, Platform: GLNXA64").into_bytes();
    file.extend([0; 8]);
    file.extend([0, 2, b'I', b'M']);
    file.resize(512, 0);
    file.extend(&hdf5);
    std::fs::write(s.join("v73.mat"), file).unwrap();
    let output = npk_any(&["list", &at(&s, "v73.mat")]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let plain = npk(&["list", &fixture("good/hdf5/h5py_new.h5").display().to_string()]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), plain);
    assert_eq!(support::inspect(&s.join("v73.mat"))["format"], "hdf5");
    // No .mat is written.
    let said = npk_fails(4, &["convert", &at(&s, "v73.mat"), &at(&s, "out.mat")]);
    assert!(said.contains("mat can be read, not written"), "{said}");
}

/// Loads with SciPy what npk made of a file, array by array.
const COMPARE: &str = r#"
import sys, warnings, numpy as np, scipy.io, scipy.sparse
warnings.simplefilter('ignore')
from scipy.io.matlab import MatlabFunction, MatlabOpaque
def flat(name, v, out):
    if scipy.sparse.issparse(v):
        v = scipy.sparse.csc_matrix(v)
        v.sort_indices()
        out.update({name + '.data': v.data, name + '.indices': v.indices, name + '.indptr': v.indptr, name + '.shape': np.array(v.shape)})
    elif isinstance(v, (MatlabFunction, MatlabOpaque)): pass
    elif v.dtype.names is not None or v.dtype == object and v.size and isinstance(v, scipy.io.matlab.MatlabObject):
        for i, one in enumerate(v.flat):
            for f in v.dtype.names: flat(name + (f'.{i}' if v.size > 1 else '') + '.' + f, one[f], out)
    elif v.dtype == object:
        line = lambda x: isinstance(x, np.ndarray) and x.dtype.kind == 'U' and x.ndim == 1 and x.size <= 1
        if v.size and all(line(x) for x in v.flat):
            out[name] = np.array([x[0] if x.size else '' for x in v.flat], 'U').reshape(v.shape)
        else:
            for i, one in enumerate(v.flat): flat(f'{name}.{i}', one, out)
    else: out[name] = v
def load(mat, **options):
    out = {}
    for k, v in scipy.io.loadmat(mat, **options).items():
        if not k.startswith('__'): flat(k, v, out)
    return out
def check(mat, npz):
    want, stored = load(mat, mat_dtype=True), load(mat)
    # SciPy loses imaginary parts with mat_dtype.
    want.update({k: v for k, v in stored.items() if v.dtype.kind == 'c'})
    found = np.load(npz)
    assert set(found.files) == set(want), (mat, set(found.files) ^ set(want))
    for k, v in want.items():
        g = found[k]
        if v.dtype.kind == 'U':
            assert g.dtype.kind == 'U' and (g.shape == v.shape or v.size == 0) and (v.size == 0 or (g == v).all()), (mat, k, g, v)
            continue
        # SciPy keeps the type in which sparse values are stored.
        assert g.dtype == v.dtype.newbyteorder('=') or '.' in k and k.split('.')[-1] in ('data', 'shape'), (mat, k, g.dtype, v.dtype)
        assert g.shape == v.shape and np.array_equal(g, v, equal_nan=v.dtype.kind in 'fc'), (mat, k, g, v)
        assert g.flags.c_contiguous
"#;

#[test]
#[ignore = "asks the real libraries"]
fn files_of_matlab_read_as_scipy_reads_them() {
    let s = Scratch::new();
    let files = support::python(
        s.path(),
        "import scipy.io.matlab, pathlib\n\
         for p in sorted((pathlib.Path(scipy.io.matlab.__file__).parent / 'tests/data').glob('*.mat')): print(p)",
    );
    let mut checks = String::from(COMPARE);
    let mut read = 0;
    for file in files.lines() {
        let name = file.rsplit('/').next().unwrap();
        let out = at(&s, &format!("{name}.npz"));
        let output =
            npk_any(&["convert", file, &out, "--skip-unsupported", "--on-duplicate", "rename"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{name}: {said}");
        // Damaged files, and HDF5.
        let bad = [
            "bad_",
            "broken_",
            "corrupted_",
            "malformed",
            "nasty",
            "testhdf5",
            "debigged",
            "testfunc",
            "sqr",
            "parabola",
            "some_functions",
            "test_empty_struct",
            "one_by_zero",
        ];
        if bad.iter().any(|b| name.starts_with(b)) {
            continue;
        }
        assert!(output.status.success(), "{name}: {said}");
        checks += &format!("check({file:?}, {out:?})\n");
        read += 1;
    }
    assert!(read > 70, "only {read}");
    support::python(s.path(), &checks);
}

#[test]
#[ignore = "asks the real libraries"]
fn files_of_scipy_read_as_it_reads_them() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import numpy as np, scipy.io, scipy.sparse
rng = np.random.default_rng(3)
all = {}
for t in ['i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8', 'f4', 'f8', '?', 'c8', 'c16']:
    d = np.dtype(t)
    for i, shape in enumerate([(1, 1), (7, 5), (3, 4, 5), (1, 300), (300, 1), (0, 3), (130, 70)]):
        a = rng.integers(0, 100, shape).astype(d) if d.kind != 'c' else (rng.random(shape) + 1j * rng.random(shape)).astype(d)
        all[f'{d.name}_{i}'] = a
all['text'] = np.array(['ab', 'cde', 'é']); all['line'] = 'hello'; all['utf'] = 'smile 😀 end'
all['sparse'] = scipy.sparse.random(30, 20, 0.2, 'csc', random_state=4)
all['struct'] = {'a': np.arange(3.0), 'b': {'c': 'x', 'd': np.eye(3)}}
cell = np.empty((2, 3), object)
for i in range(6): cell.flat[i] = np.full((i, 2), i)
all['cell'] = cell
all['records'] = np.array([(1, 2.5), (3, 4.5)], [('x', 'i4'), ('y', 'f8')])
all['big'] = rng.random((700, 800))
scipy.io.savemat('plain.mat', all); scipy.io.savemat('packed.mat', all, do_compression=True)
v4 = {k: v for k, v in all.items() if isinstance(v, np.ndarray) and v.ndim == 2 and v.dtype.kind in 'fc' and v.dtype.itemsize >= 8}
scipy.io.savemat('v4.mat', {**v4, 'line': 'hello', 'sparse': all['sparse']}, format='4')
"#,
    );
    for file in ["plain", "packed", "v4"] {
        let (input, out) = (at(&s, &format!("{file}.mat")), at(&s, &format!("{file}.npz")));
        npk(&["convert", &input, &out, "-m", "1MiB"]);
        npk(&["verify", &input]);
        support::python(s.path(), &format!("{COMPARE}\ncheck('{file}.mat', '{file}.npz')"));
    }
    npk(&["diff", &at(&s, "plain.mat"), &at(&s, "packed.mat")]);
}

/// All fixtures, whatever their version and byte order.
#[test]
#[ignore = "asks the real libraries"]
fn fixtures_read_as_scipy_reads_them() {
    let s = Scratch::new();
    let mut checks = String::from(COMPARE);
    for file in fixtures("good/mat", &["mat"]) {
        let (input, name) =
            (file.display().to_string(), file.file_stem().unwrap().to_string_lossy().into_owned());
        if name.starts_with("nasty") || name == "parabola" {
            continue;
        }
        let out = at(&s, &format!("{name}.npz"));
        npk(&["convert", &input, &out]);
        checks += &format!("check({input:?}, {out:?})\n");
    }
    support::python(s.path(), &checks);
}
