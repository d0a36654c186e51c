//! HDF5: h5py, netCDF4, pandas and h5dump as judges, both ways; damage.

use std::path::Path;

use npk::error::{Error, ErrorKind, Result};
use npk::format::{Format, Order, ReadOptions, Source, Summary, WriteOptions};
use npk::formats::hierarchical::hdf5::Hdf5;
use npk::model::{ArrayMeta, Chunk, Logical, Values};
use npk::storage::Location;
use serde_json::json;

use crate::support::library::failing_mutants;
use crate::support::{self, Scratch};

pub(super) fn open(path: &Path) -> Result<Box<dyn Source>> {
    Hdf5.open(&Location::local(path), &ReadOptions::default())
}

/// All chunks of an array, read in pieces along the cuts, or of `step` rows.
pub(super) fn read(source: &dyn Source, array: usize, step: Option<u64>) -> Result<Vec<Chunk>> {
    let meta = &source.plan().arrays[array];
    let reader = crate::support::library::rows_of(source, array);
    let total = meta.rows.unwrap();
    let mut chunks = Vec::new();
    let mut row = 0;
    while row < total {
        let end = step.map_or_else(|| reader.next_boundary(array, row), |s| row + s).min(total);
        assert!(end > row);
        reader.read(array, row..end, &mut |chunk| {
            chunks.push(chunk);
            Ok(())
        })?;
        row = end;
    }
    Ok(chunks)
}

/// The bytes of an array of fixed size, or its texts as JSON.
fn bytes(chunks: &[Chunk]) -> Vec<u8> {
    let mut texts = Vec::new();
    let mut bytes = Vec::new();
    for chunk in chunks {
        match &chunk.values {
            Values::Fixed(b) => bytes.extend_from_slice(b),
            Values::Var { .. } => {
                texts.extend(
                    (0..chunk.rows as usize)
                        .map(|r| String::from_utf8(chunk.text(r).to_vec()).unwrap()),
                );
            }
            Values::Nested(_) => unreachable!(),
        }
    }
    if texts.is_empty() { bytes } else { serde_json::to_vec(&texts).unwrap() }
}

/// The bytes of each list, in hexadecimal.
fn lists(meta: &ArrayMeta, chunks: &[Chunk]) -> Vec<String> {
    let item = meta.dtype.item_bytes();
    let list = |w: &[u64], values: &[u8]| -> String {
        values[(w[0] * item) as usize..(w[1] * item) as usize]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    };
    let of_chunk = |chunk: &Chunk| -> Vec<String> {
        let Values::Var { offsets, values } = &chunk.values else { unreachable!() };
        offsets.windows(2).map(|w| list(w, values)).collect()
    };
    chunks.iter().flat_map(of_chunk).collect()
}

/// Text of several dimensions, which comes as codes.
fn coded(meta: &ArrayMeta, codes: &[u8]) -> Vec<String> {
    let (offsets, text) = meta.coded_items(codes).unwrap();
    offsets
        .windows(2)
        .map(|w| String::from_utf8(text[w[0] as usize..w[1] as usize].to_vec()).unwrap())
        .collect()
}

/// Writes every array into `to`, for `h5judge.check`.
#[track_caller]
fn dump(path: &Path, to: &Path, step: Option<u64>) -> Vec<(String, Option<Error>)> {
    std::fs::create_dir_all(to).unwrap();
    let source = open(path).unwrap();
    let readable: Vec<usize> = (0..source.plan().arrays.len())
        .filter(|&a| source.plan().arrays[a].details.error.is_none())
        .collect();
    source.select(&readable, Order::ArrayByArray).unwrap();
    let mut manifest = Vec::new();
    let mut told = Vec::new();
    for (a, meta) in source.plan().arrays.iter().enumerate() {
        let file = format!("{a}.bin");
        let mut error = meta.details.error.as_ref().map(|e| Error::new(e.kind(), e.message()));
        if error.is_none() {
            match read(source.as_ref(), a, step) {
                Ok(chunks) => {
                    let text = meta.logical.is_var();
                    let data = match meta.coded_text() {
                        Some(_) => serde_json::to_vec(&coded(meta, &bytes(&chunks))).unwrap(),
                        None if text && chunks.is_empty() => b"[]".to_vec(),
                        None if meta.logical == Logical::List => {
                            serde_json::to_vec(&lists(meta, &chunks)).unwrap()
                        }
                        None => bytes(&chunks),
                    };
                    if let (Some(extents), false) =
                        (crate::support::library::rows_of(source.as_ref(), a).extents(a), text)
                    {
                        use std::os::unix::fs::FileExt;
                        let mut ready = Vec::new();
                        for e in extents {
                            let mut piece = vec![0; e.len as usize];
                            e.file.read_exact_at(&mut piece, e.offset).unwrap();
                            ready.extend(piece);
                        }
                        assert_eq!(ready, data, "the extents of {}", meta.name);
                    }
                    std::fs::write(to.join(&file), data).unwrap();
                }
                Err(e) => error = Some(e),
            }
        }
        manifest.push(json!({
            "name": meta.name, "file": file, "dtype": meta.dtype.name(), "shape": meta.shape(),
            "text": meta.logical.is_var() || meta.coded_text().is_some(), "error": error.as_ref().map(|e| e.message().to_string()),
        }));
        told.push((meta.name.clone(), error));
    }
    std::fs::write(to.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    told
}

/// Dumps and lets h5py compare; returns the arrays that were refused.
#[track_caller]
pub(super) fn judged(
    dir: &Scratch,
    file: &str,
    least: usize,
    step: Option<u64>,
) -> Vec<(String, Error)> {
    let told = dump(&dir.join(file), &dir.join("dump"), step);
    support::python(
        dir.path(),
        &format!("import h5judge; h5judge.check('{file}', 'dump', {least})"),
    );
    told.into_iter().filter_map(|(n, e)| e.map(|e| (n, e))).collect()
}

const TYPES: &str = r#"
import h5py, numpy as np, ml_dtypes
r = np.random.default_rng(1)
with h5py.File('types.h5', 'w') as f:
    for order in '<>':
        for kind in 'u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 c8 c16'.split():
            f[f'{"le" if order == "<" else "be"}/{kind}'] = r.integers(0, 100, (7, 3)).astype(order + kind)
    f['bool'] = np.array([[True, False], [False, True]])
    f['scalar'] = np.float32(1.5)
    f['empty'] = np.zeros((0, 3), 'i2')
    f['inner_empty'] = np.zeros((3, 0), 'i2')
    f.create_dataset('null', data=h5py.Empty('f4'))
    f['vlen_text'] = np.array(['', 'äöü', 'b' * 1000], dtype=h5py.string_dtype())
    f['fixed_text'] = np.array([b'', b'abc', b'abcdef'])
    f['utf8_fixed'] = np.array(['é'.encode(), b'zz'], dtype=h5py.string_dtype('utf-8', 3))
    f['text_scalar'] = 'hello'
    f['enum'] = np.zeros(4, 'i1')
    t = h5py.enum_dtype({'RED': 0, 'GREEN': 1, 'BLUE': 42}, basetype='i2')
    f.create_dataset('colors', data=np.array([42, 0, 1], 'i2'), dtype=t)
    t = np.dtype({'names': ['a', 'b', 'c'], 'formats': ['<i2', ('>f8', (2, 3)), [('x', 'u1'), ('y', '<f4')]], 'offsets': [2, 8, 60], 'itemsize': 80})
    data = np.zeros((5,), t)
    data['a'] = np.arange(5); data['b'] = r.random((5, 2, 3)); data['c']['x'] = 3; data['c']['y'] = r.random(5)
    f['compound'] = data
    f.create_dataset('compound_gzip', data=data, chunks=(2,), compression='gzip', shuffle=True)
    t = np.dtype([('id', 'i8'), ('name', h5py.string_dtype())])
    f['with_text'] = np.array([(1, 'one'), (2, 'two')], t)
    f.create_dataset('with_text_chunked', data=np.array([(1, 'one'), (2, 'two'), (3, 'drei')], t), chunks=(2,))
    def low(name, t, shape, data):
        d = h5py.h5d.create(f.id, name.encode(), t, h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR))
        d.write(h5py.h5s.ALL, h5py.h5s.ALL, data, t if shape is None or len(shape) < data.ndim else None)
    low('array_type', h5py.h5t.array_create(h5py.h5t.IEEE_F64LE, (3,)), (4, 2), r.random((4, 2, 3)))
    low('list_scalar', h5py.h5t.array_create(h5py.h5t.IEEE_F64LE, (2, 3)), (), np.arange(6.).reshape(2, 3))
    f['bf16'] = np.arange(6, dtype='f4').astype(ml_dtypes.bfloat16).view('u2')
    t = h5py.h5t.IEEE_F32LE.copy()
    t.set_fields(15, 7, 8, 0, 7); t.set_size(2); t.set_ebias(127)
    d = h5py.h5d.create(f.id, b'real_bf16', t, h5py.h5s.create_simple((6,)))
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([0, 1, -2.5, np.inf, 3e38, 1e-40], 'f4'))
    t = h5py.h5t.IEEE_F32BE.copy()
    t.set_fields(23, 18, 5, 0, 18); t.set_precision(24); t.set_size(3); t.set_ebias(15)
    d = h5py.h5d.create(f.id, b'f24be', t, h5py.h5s.create_simple((6,)))
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([0, 1, -2.5, np.inf, 0.1, 1e-6], 'f4'))
    f['longdouble'] = np.array([1, 2.5, -3], np.longdouble)
    t = h5py.h5t.STD_I32LE.copy(); t.set_precision(17); t.set_offset(3)
    d = h5py.h5d.create(f.id, b'n_bit', t, h5py.h5s.create_simple((4,)))
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([0, 1, -2, 65535], 'i4'))
    t = h5py.h5t.STD_U32BE.copy(); t.set_size(3); t.set_precision(24)
    d = h5py.h5d.create(f.id, b'u24', t, h5py.h5s.create_simple((3,)))
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([0, 1, 0xABCDEF], 'u4'))
    f.create_dataset('times', data=np.array(['2020-01-01', 'NaT'], 'M8[ns]').astype(h5py.opaque_dtype('M8[ns]')))
    f['ref'] = np.array([f['scalar'].ref], h5py.ref_dtype)
    f.create_dataset('vlen', (2,), h5py.vlen_dtype('i4'))
    f['opaque'] = np.array([b'abc'], 'V3')
    f['text_2d'] = np.array([['a', 'b']], dtype=h5py.string_dtype())
    f['text_3d'] = np.array([f'{i} é' for i in range(30)], dtype=h5py.string_dtype()).reshape(5, 3, 2)
    f.create_dataset('text_3d_gzip', data=f['text_3d'][:], chunks=(2, 2, 2), compression='gzip')
    f['fixed_2d'] = np.array([[b'a', b'bc'], [b'', b'def'], [b'x', b'y']])
    f.create_dataset('fixed_2d_gzip', data=f['fixed_2d'][:], chunks=(2, 1), compression='gzip')
    f.create_dataset('text_2d_empty', (4, 0), h5py.string_dtype())
    f['fixed_list'] = np.array([([b'a', b'bc'],), ([b'd', b''],)], [('l', 'S2', 2)])
"#;

#[test]
#[ignore = "asks the real libraries"]
fn types_read_as_h5py_reads_them() {
    let dir = Scratch::new();
    support::python(dir.path(), TYPES);
    for step in [None, Some(1), Some(2)] {
        let refused = judged(&dir, "types.h5", 50, step);
        let names: Vec<&str> = refused.iter().map(|r| r.0.as_str()).collect();
        assert_eq!(names, ["opaque", "ref"], "{refused:?}");
        assert!(refused.iter().all(|r| r.1.kind() == ErrorKind::Refused), "{refused:?}");
    }
    let source = open(&dir.join("types.h5")).unwrap();
    let plan = source.plan();
    let kind = |name: &str| plan.arrays[plan.position(name).unwrap()].type_name();
    assert_eq!(kind("real_bf16"), "bfloat16");
    assert_eq!(kind("times"), "datetime64[ns]");
    assert_eq!(kind("bool"), "bool");
    assert_eq!(kind("f24be"), "float32");
    let colors = &plan.arrays[plan.position("colors").unwrap()];
    assert_eq!(colors.details.attributes["hdf5:enum"], json!({"RED": 0, "GREEN": 1, "BLUE": 42}));
}

const LAYOUTS: &str = r#"
import h5py, numpy as np, hdf5plugin as hp
r = np.random.default_rng(2)
a = (r.integers(0, 50, (301, 17, 5)) * 3).astype('f4')
i = np.arange(100_000, dtype='i4').reshape(1000, 100) // 7
with h5py.File('layouts.h5', 'w', libver=('earliest', 'v108')) as f:
    f['contiguous'] = a
    low = h5py.h5p.create(h5py.h5p.DATASET_CREATE); low.set_layout(h5py.h5d.COMPACT)
    d = h5py.h5d.create(f.id, b'compact', h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((17, 5)), low)
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, a[0])
    low = h5py.h5p.create(h5py.h5p.DATASET_CREATE); low.set_external(b'outside.bin', 0, 4096)
    d = h5py.h5d.create(f.id, b'external', h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((17, 5)), low)
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, a[0])
    f.create_dataset('never_written', (5, 4), 'i8', fillvalue=7)
    f.create_dataset('never_chunked', (5, 4), 'i8', fillvalue=7, chunks=(2, 3))
    some = f.create_dataset('some_chunks', (50, 40), '>i4', fillvalue=-3, chunks=(8, 9), maxshape=(None, None), compression='gzip')
    some[3:20, 11:30] = 5
    f.create_dataset('chunks', data=a, chunks=(40, 5, 5))
    f.create_dataset('wide', data=i, chunks=(1000, 3))
    f.create_dataset('one', data=a, chunks=(301, 17, 5), compression='gzip')
    for level in (0, 1, 9):
        f.create_dataset(f'gzip{level}', data=a, chunks=(64, 17, 3), compression='gzip', compression_opts=level, shuffle=level == 9)
    f.create_dataset('fletcher', data=i, chunks=(64, 33), fletcher32=True, shuffle=True, compression='gzip')
    f.create_dataset('lzf', data=i, chunks=(64, 33), compression='lzf')
    f.create_dataset('lzf_noise', data=r.random((100, 100)), chunks=(64, 33), compression='lzf')
    f.create_dataset('lzf_shuffle', data=a, chunks=True, compression='lzf', shuffle=True)
    f.create_dataset('scaleoffset', data=i, chunks=(64, 33), scaleoffset=0)
    f.create_dataset('scale_float', data=a, chunks=(64, 17, 5), scaleoffset=3)
    t = h5py.h5t.STD_I32LE.copy(); t.set_precision(17)
    low = h5py.h5p.create(h5py.h5p.DATASET_CREATE); low.set_chunk((64, 33)); low.set_filter(5)
    d = h5py.h5d.create(f.id, b'nbit', t, h5py.h5s.create_simple(i.shape), low)
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, i)
    for name, kind in (('i', i), ('a', a), ('u1', i.astype('u1')), ('f8', a.astype('f8'))):
        chunks = (37,) + kind.shape[1:-1] + (kind.shape[-1],)
        make = lambda n, **o: f.create_dataset(f'{n}_{name}', data=kind, chunks=chunks, **o)
        for c in ('blosclz', 'lz4', 'lz4hc', 'zlib', 'zstd', 'snappy'):
            for s in (0, 1, 2):
                try: make(f'blosc_{c}_{s}', compression=hp.Blosc(cname=c, clevel=5, shuffle=s))
                except Exception as e:
                    assert c == 'snappy', e
        for c in ('blosclz', 'lz4', 'lz4hc', 'zlib', 'zstd'):
            for s in (0, 1, 2):
                make(f'blosc2_{c}_{s}', compression=hp.Blosc2(cname=c, clevel=5, filters=s))
        for c in (None, 'lz4', 'zstd'):
            make(f'bitshuffle_{c}', compression=hp.Bitshuffle(cname=c or 'none'))
        make('bitshuffle_small', compression=hp.Bitshuffle(nelems=64, cname='lz4'))
        make('lz4', compression=hp.LZ4()); make('lz4_blocks', compression=hp.LZ4(nbytes=1000))
        make('zstd', compression=hp.Zstd(5)); make('bzip2', compression=hp.BZip2())
        make('constant_blosc2', compression=hp.Blosc2())[...] = 0
    f.create_dataset('refused', data=a, chunks=True, compression=hp.Zfp(reversible=True))
for version in ('v110', 'v112', 'latest'):
    with h5py.File(f'new_{version}.h5', 'w', libver=version) as f:
        f['group/contiguous'] = a
        f.create_dataset('single', data=a, chunks=a.shape, compression='gzip')
        f.create_dataset('implicit_fixed', data=i, chunks=(10, 10))
        f.create_dataset('paged', data=np.arange(40000), chunks=(10,), compression='gzip')
        f.create_dataset('extensible', data=i, chunks=(10, 30), maxshape=(None, 100), compression='gzip')
        f.create_dataset('btree2', data=i, chunks=(90, 30), maxshape=(None, None), compression='gzip')
        low = h5py.h5p.create(h5py.h5p.DATASET_CREATE); low.set_chunk((10, 10)); low.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        d = h5py.h5d.create(f.id, b'implicit', h5py.h5t.STD_I32LE, h5py.h5s.create_simple(i.shape), low)
        d.write(h5py.h5s.ALL, h5py.h5s.ALL, i)
        low = h5py.h5p.create(h5py.h5p.DATASET_CREATE); low.set_chunk((64, 33)); low.set_deflate(3)
        try: low.set_chunk_opts(2)
        except AttributeError: pass
        d = h5py.h5d.create(f.id, b'edges', h5py.h5t.STD_I32LE, h5py.h5s.create_simple(i.shape), low)
        d.write(h5py.h5s.ALL, h5py.h5s.ALL, i)
        shrunk = f.create_dataset('shrunk', data=i, chunks=(64, 33), maxshape=(None, None)); shrunk.resize((100, 50))
with h5py.File('user_block.h5', 'w', userblock_size=1024) as f:
    f['contiguous'] = a
    f.create_dataset('gzip', data=a, compression='gzip')
layout = h5py.VirtualLayout((400, 100), 'i4')
layout[:200] = h5py.VirtualSource('layouts.h5', 'lzf', (1000, 100))[100:300]
layout[300:] = h5py.VirtualSource('new_v110.h5', 'btree2', (1000, 100))[:100]
with h5py.File('virtual.h5', 'w') as f:
    f.create_virtual_dataset('virtual', layout, fillvalue=-1)
"#;

#[test]
#[ignore = "asks the real libraries"]
fn layouts_and_filters_read_as_h5py_reads_them() {
    let dir = Scratch::new();
    support::python(dir.path(), LAYOUTS);
    let refused = judged(&dir, "layouts.h5", 150, None);
    let told: Vec<String> = refused.iter().map(|(n, e)| format!("{n}: {e}")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("zfp") && told[0].contains("32013"), "{told:?}");
    for (file, least) in [
        ("new_v110.h5", 9),
        ("new_v112.h5", 9),
        ("new_latest.h5", 9),
        ("user_block.h5", 2),
        ("virtual.h5", 1),
    ] {
        for step in [None, Some(7)] {
            assert!(judged(&dir, file, least, step).is_empty(), "{file}");
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn links_lead_where_h5py_follows_them() {
    let dir = Scratch::new();
    support::python(
        dir.path(),
        r#"
import h5py, numpy as np
with h5py.File('other.h5', 'w') as f:
    f['x/y'] = np.arange(3); f.create_dataset('z', data=np.arange(30), chunks=(7,), compression='gzip')
with h5py.File('links.h5', 'w', track_order=True) as f:
    g = f.create_group('zgroup', track_order=True)
    g['b'] = np.arange(4.); g['a'] = np.arange(5.)
    f['hard'] = g['b']
    f['soft'] = h5py.SoftLink('/zgroup/a')
    f['soft_group'] = h5py.SoftLink('/zgroup')
    f['dangling'] = h5py.SoftLink('/nowhere')
    f['external'] = h5py.ExternalLink('other.h5', '/x/y')
    f['external_z'] = h5py.ExternalLink('other.h5', '/z')
    f['external_group'] = h5py.ExternalLink('other.h5', '/x')
    f['lost'] = h5py.ExternalLink('gone.h5', '/x')
    g['cycle'] = f['/']
    g['self'] = h5py.SoftLink('/zgroup')
    f['type'] = np.dtype('f4')
    f.create_group('empty').attrs['k'] = 'v'
    f.attrs['title'] = 'links'
"#,
    );
    let refused = judged(&dir, "links.h5", 8, None);
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].0.as_str(), refused[0].1.kind()), ("lost", ErrorKind::Missing));
    let source = open(&dir.join("links.h5")).unwrap();
    let plan = source.plan();
    let names: Vec<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
    let expected = [
        "zgroup/b",
        "zgroup/a",
        "hard",
        "soft",
        "soft_group/b",
        "soft_group/a",
        "external",
        "external_z",
        "external_group/y",
        "lost",
    ];
    assert_eq!(names, expected);
    assert_eq!(plan.arrays[2].details.alias_of.as_deref(), Some("zgroup/b"));
    assert_eq!(plan.groups["empty"]["k"], json!("v"));
    assert_eq!(plan.attributes["title"], json!("links"));
    assert!(plan.notes.iter().any(|n| n.contains("dangling")), "{:?}", plan.notes);
    let options = ReadOptions { group: Some("/zgroup/".into()), ..ReadOptions::default() };
    let source = Hdf5.open(&Location::local(dir.join("links.h5")), &options).unwrap();
    assert_eq!(
        source.plan().arrays.iter().take(2).map(|a| a.name.as_str()).collect::<Vec<_>>(),
        ["b", "a"]
    );
    let options = ReadOptions { group: Some("nope".into()), ..ReadOptions::default() };
    let Err(error) = Hdf5.open(&Location::local(dir.join("links.h5")), &options) else {
        panic!("a group that is not there")
    };
    assert_eq!(error.kind(), ErrorKind::Missing);
}

/// A file from elsewhere may not choose which files of this machine are shown.
#[test]
#[ignore = "asks the real libraries"]
fn external_storage_stays_below_the_folder_of_the_file() {
    let s = Scratch::new();
    support::python(
        s.path(),
        "import os, h5py, numpy as np
os.makedirs('sub/raw'); np.arange(4, dtype='u1').tofile('secret.bin'); np.arange(4, dtype='u1').tofile('sub/raw/near.bin')
with h5py.File('sub/e.h5', 'w') as f:
    for name, at in (('near', 'raw/near.bin'), ('above', '../secret.bin'), ('inside', 'raw/../../secret.bin'), ('absolute', os.path.abspath('secret.bin')), ('here', 'secret.bin')):
        low = h5py.h5p.create(h5py.h5p.DATASET_CREATE); low.set_external(at.encode(), 0, 4)
        h5py.h5d.create(f.id, name.encode(), h5py.h5t.STD_U8LE, h5py.h5s.create_simple((4,)), low)",
    );
    let file = s.join("sub/e.h5");
    let convert = |array: &str| {
        let out = s.join("out.npy");
        support::npk_command()
            .current_dir(s.path())
            .args(["convert", "-a", array])
            .arg(&file)
            .arg(out)
            .output()
            .unwrap()
    };
    for name in ["above", "inside", "absolute"] {
        let output = convert(name);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{name}: {said}");
        assert!(said.contains("secret.bin") && said.contains(name), "{said}");
    }
    // Nor the working directory.
    assert_ne!(convert("here").status.code(), Some(0));
    assert!(!s.join("out.npy").exists());
    assert!(convert("near").status.success());
    assert!(std::fs::read(s.join("out.npy")).unwrap().ends_with(&[0, 1, 2, 3]));
}

const ROUND: &str = r#"
import h5py, numpy as np, ml_dtypes
r = np.random.default_rng(3)
with h5py.File('round.h5', 'w', track_order=True, libver=('v108', 'v110')) as f:
    for order in '<>':
        for kind in 'u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 c8 c16'.split():
            f[f'{"le" if order == "<" else "be"}/{kind}'] = r.integers(0, 100, (70, 3)).astype(order + kind)
    f['bool'] = np.array([[True, False], [False, True]])
    f['scalar'] = np.float32(1.5)
    f['scalar_text'] = 'ä'
    f['scalar_bool'] = True
    f['empty'] = np.zeros((0, 3), 'i2')
    f['empty_text'] = np.array([], dtype=h5py.string_dtype())
    f['inner_empty'] = np.zeros((3, 0), 'i2')
    f.create_dataset('null', data=h5py.Empty('f4'))
    f['text'] = np.array(['', 'äöü', 'b' * 1000] * 500, dtype=h5py.string_dtype())
    f.create_dataset('colors', data=np.array([42, 0, 1], 'i2'), dtype=h5py.enum_dtype({'RED': 0, 'GREEN': 1, 'BLUE': 42}, basetype='i2'))
    f.create_dataset('times', data=np.array(['2020-01-01', 'NaT'], '<M8[ns]').astype(h5py.opaque_dtype('<M8[ns]')))
    f.create_dataset('deltas', data=np.array([1, 2], '<m8[s]').astype(h5py.opaque_dtype('<m8[s]')))
    f['deep/er/and/deeper'] = np.arange(4)
    f['noise'] = r.random((300, 33))
    f['smooth'] = (np.arange(300_000) // 50).astype('f4').reshape(100, 1000, 3)
    f['wide'] = np.arange(600_000, dtype='i4').reshape(2, 300_000)
    f['z' * 300] = np.arange(3)
    f['ünïcode/名前'] = np.arange(3)
    g = f.create_group('attributed'); f.create_group('empty_group')
    for on in (f, g, f['noise']):
        a = on.attrs
        a['text'] = 'ä'; a['ascii'] = np.bytes_('abc'); a['bytes'] = np.bytes_(b'\xff\xfe')
        a['texts'] = ['a', 'bc']; a['fixed'] = np.array([b'x', b'yz']); a['text_2d'] = np.array([['a', 'b'], ['c', 'd']], dtype=h5py.string_dtype())
        a.create('vlen_ascii', 'abc', dtype=h5py.string_dtype('ascii'))
        a['int'] = 5; a['i1'] = np.int8(-5); a['u8'] = np.uint64(2**64 - 1); a['list'] = [1, 2, 3]; a['f4s'] = np.array([1.5, 2.25], 'f4')
        a['f8'] = 0.1; a['nan'] = np.nan; a['inf'] = np.array([np.inf, -np.inf, 1]); a['bool'] = True; a['bools'] = np.array([True, False])
        a['c16'] = 1 + 2j; a['matrix'] = np.arange(6).reshape(2, 3); a['f2'] = np.float16(0.1); a['empty'] = h5py.Empty('f4'); a['none'] = np.array([], 'i4')
        a['large'] = np.arange(100_000.); a['long_text'] = 'x' * 200_000; a['be'] = np.array([1, 2], '>i4'); a['one'] = np.array([1])
"#;

/// Moves all arrays of one file into another through the pipe.
#[track_caller]
fn convert(from: &Path, to: &Path, options: &WriteOptions) -> Result<Summary> {
    let source = open(from)?;
    let settings = npk::pipe::Settings::new(2, 32 << 20);
    let at = Location::local(to);
    let (summary, _) = npk::pipe::run(
        source,
        Hdf5.spec().writes.as_ref().unwrap(),
        Box::new(|plan| Hdf5.prepare(&at, plan, options)?(plan)),
        &settings,
    )?;
    assert_eq!(summary.bytes, std::fs::metadata(to).unwrap().len());
    Ok(summary)
}

fn with(compression: &str) -> WriteOptions {
    let (name, level) =
        compression.split_once(':').map_or((compression, None), |(n, l)| (n, l.parse().ok()));
    WriteOptions {
        compression: Some(npk::format::Compression { name: name.into(), level }),
        ..WriteOptions::default()
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn written_files_are_what_h5py_wrote() {
    let dir = Scratch::new();
    support::python(dir.path(), ROUND);
    let from = dir.join("round.h5");
    let mut judge = String::from("import h5judge\n");
    for (name, filter, options) in [
        ("default", 1, WriteOptions::default()),
        ("gzip", 1, with("gzip:9")),
        ("none", 0, with("none")),
        ("lzf", 32000, with("lzf")),
        ("zstd", 32015, with("zstd:7")),
        ("blosc", 32001, with("blosc")),
        ("lz4", 32004, with("lz4")),
    ] {
        let summary = convert(&from, &dir.join(&format!("{name}.h5")), &options).unwrap();
        assert!(summary.notes.is_empty(), "{:?}", summary.notes);
        judge += &format!("h5judge.same('round.h5', '{name}.h5', {filter})\n");
    }
    support::python(dir.path(), &judge);
    assert_eq!(dir.names().len(), 8, "{:?}", dir.names());
    // And once more from what was written: nothing is lost on the second way either.
    convert(&dir.join("zstd.h5"), &dir.join("again.h5"), &WriteOptions::default()).unwrap();
    support::python(dir.path(), "import h5judge; h5judge.same('round.h5', 'again.h5', 1)");
}

const SMALL: &str = r#"
import h5py, numpy as np, hdf5plugin as hp
def fill(f):
    a = np.arange(60, dtype='f4').reshape(20, 3)
    f['c'] = a
    f.create_dataset('g/gzip', data=a, chunks=(7, 2), compression='gzip', shuffle=True, fletcher32=True)
    f.create_dataset('g/lzf', data=a, chunks=(7, 2), compression='lzf', maxshape=(None, None))
    for name, filter in (('blosc', hp.Blosc('blosclz')), ('blosc2', hp.Blosc2()), ('bits', hp.Bitshuffle()), ('lz4', hp.LZ4()), ('zstd', hp.Zstd())):
        f.create_dataset('f/' + name, data=np.repeat(a, 30), chunks=(500,), compression=filter)
    f.create_dataset('scaled', data=a.astype('i4'), chunks=(7, 2), scaleoffset=0)
    f['text'] = np.array(['a', 'bcd', 'é'], dtype=h5py.string_dtype())
    f['fixed'] = np.array([b'a', b'bcd'])
    f['record'] = np.array([(1, 2.5, 'x')], [('a', 'i4'), ('b', '>f8'), ('t', h5py.string_dtype())])
    f['plain'] = np.array([(1, [2.5, 3])], [('a', 'i4'), ('b', '>f8', 2)])
    f.create_dataset('enum', data=np.array([1, 0]), dtype=h5py.enum_dtype({'A': 0, 'B': 1}))
    f['bool'] = np.array([True, False]); f['z'] = np.array([1 + 2j]); f['null'] = h5py.Empty('f4')
    f['soft'] = h5py.SoftLink('/c'); f['g/hard'] = f['c']; f['g/up'] = f['/']
    f.attrs['t'] = 'text'; f['c'].attrs['v'] = [1.5, 2]; f['g'].attrs['s'] = ['a', 'b']; f['g'].attrs['r'] = f['c'].ref
    f['c'].make_scale('rows'); f['g/gzip'].dims[0].attach_scale(f['c'])
with h5py.File('old.h5', 'w', libver='earliest') as f: fill(f)
with h5py.File('new.h5', 'w', libver='latest') as f: fill(f)
"#;

#[test]
#[ignore = "asks the real libraries"]
fn damage_is_an_error_and_nothing_worse() {
    let dir = Scratch::new();
    support::python(dir.path(), SMALL);
    let count = std::env::var("NPK_TEST_MUTANTS").ok().and_then(|n| n.parse().ok()).unwrap_or(90);
    for file in ["old.h5", "new.h5"] {
        let failed = failing_mutants("hdf5", &dir.join(file), &dir.join(file), count);
        assert!(failed > count / 4, "{file}: {failed}");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn pandas_frames_come_as_columns() {
    let dir = Scratch::new();
    support::python(
        dir.path(),
        r#"
import pandas as pd, numpy as np
n = 2000
df = pd.DataFrame({'b': np.arange(n) * 1.5, 'a': np.arange(n), 'c': np.arange(n) * 2.5, 't': pd.date_range('2020', periods=n, unit='us'),
                   'flag': np.arange(n) % 3 == 0, 'small': np.arange(n, dtype='i2')}, index=pd.Index(np.arange(n) * 10, name='idx'))
df.to_hdf('fixed.h5', key='df', format='fixed')
df.to_hdf('packed.h5', key='df', format='fixed', complib='zlib', complevel=5)
df['s'] = [f'text {i % 7}' for i in range(n)]
df.to_hdf('table.h5', key='deep/df', format='table')
df.to_hdf('columns.h5', key='df', format='table', data_columns=True, complib='blosc', complevel=5)
df.to_hdf('object.h5', key='df', format='fixed')
df['a'].to_hdf('series.h5', key='s')
df['b'].to_hdf('series_table.h5', key='s', format='table')
df[['a', 'b']].to_hdf('two.h5', key='one'); df[['c', 'flag']].to_hdf('two.h5', key='two', format='table')
"#,
    );
    let all = ["b", "a", "c", "t", "flag", "small"];
    for (file, columns, index) in [
        ("fixed", &all[..], "idx"),
        ("packed", &all[..], "idx"),
        ("table", &["b", "a", "c", "t", "flag", "small", "s"][..], "idx"),
        ("columns", &["b", "a", "c", "t", "flag", "small", "s"][..], "idx"),
        ("series", &["a"][..], "idx"),
        ("series_table", &["b"][..], "idx"),
    ] {
        let path = dir.join(&format!("{file}.h5"));
        let refused: Vec<_> =
            dump(&path, &dir.join("dump"), None).into_iter().filter(|t| t.1.is_some()).collect();
        assert!(refused.is_empty(), "{file}: {refused:?}");
        let source = open(&path).unwrap();
        let [table] = &source.plan().tables[..] else {
            panic!("{file}: {:?}", source.plan().tables)
        };
        assert_eq!(
            table.columns.iter().map(|c| c.header.as_str()).collect::<Vec<_>>(),
            columns,
            "{file}"
        );
        assert_eq!(table.index, [index], "{file}");
        let code = format!(
            r#"
import json, pandas as pd, numpy as np
df = pd.read_hdf('{file}.h5'); df = df.to_frame() if isinstance(df, pd.Series) else df
for entry in json.load(open('dump/manifest.json')):
    raw = open('dump/' + entry['file'], 'rb').read()
    theirs = df.index if entry['name'] == df.index.name else df[entry['name']]
    if entry['text']:
        assert json.loads(raw) == list(theirs), entry
    else:
        theirs = theirs.to_numpy()
        assert theirs.dtype.kind in 'mM' or theirs.dtype == entry['dtype'], (entry, theirs.dtype)
        assert raw == theirs.tobytes(), entry
assert len(json.load(open('dump/manifest.json'))) == df.shape[1] + 1
"#
        );
        support::python(dir.path(), &code);
    }
    let source = open(&dir.join("fixed.h5")).unwrap();
    let plan = source.plan();
    assert_eq!(plan.arrays[plan.position("t").unwrap()].type_name(), "datetime64[us]");
    assert_eq!(plan.arrays[plan.position("flag").unwrap()].type_name(), "bool");
    let source = open(&dir.join("two.h5")).unwrap();
    let names: Vec<&str> = source.plan().arrays.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["one/idx", "one/a", "one/b", "two/idx", "two/c", "two/flag"]);
    let source = open(&dir.join("object.h5")).unwrap();
    let plan = source.plan();
    let text = &plan.arrays[plan.position("s").unwrap()];
    assert_eq!(text.details.error.as_ref().unwrap().kind(), ErrorKind::Refused);
    assert_eq!(plan.arrays.iter().filter(|a| a.details.error.is_some()).count(), 1);
}

#[test]
#[ignore = "asks the real libraries"]
fn netcdf_dimensions_go_round() {
    let dir = Scratch::new();
    support::python(
        dir.path(),
        r#"
import netCDF4, numpy as np
with netCDF4.Dataset('in.nc', 'w') as f:
    f.createDimension('time', None); f.createDimension('x', 3); f.title = 'netCDF'
    t = f.createVariable('time', 'f8', ('time',)); t.units = 'days since 2000-01-01'; t[:] = np.arange(5)
    x = f.createVariable('x', 'i4', ('x',)); x[:] = [1, 2, 3]
    v = f.createVariable('temp', 'f4', ('time', 'x'), zlib=True, fill_value=-9); v.units = 'K'; v[:] = np.arange(15).reshape(5, 3)
    g = f.createGroup('g'); w = g.createVariable('w', 'i2', ('x',)); w[:] = [7, 8, 9]
"#,
    );
    let source = open(&dir.join("in.nc")).unwrap();
    let plan = source.plan();
    let meta = &plan.arrays[plan.position("temp").unwrap()];
    assert_eq!(meta.details.attributes["_ARRAY_DIMENSIONS"], json!(["time", "x"]));
    assert_eq!(meta.details.attributes["units"], json!("K"));
    drop(source);
    assert!(judged(&dir, "in.nc", 4, None).is_empty());
    convert(&dir.join("in.nc"), &dir.join("out.nc"), &WriteOptions::default()).unwrap();
    support::python(
        dir.path(),
        r#"
import netCDF4, numpy as np
a, b = netCDF4.Dataset('in.nc'), netCDF4.Dataset('out.nc')
assert b.title == 'netCDF' and set(a.variables) == set(b.variables), b
for name in a.variables:
    assert a[name].dimensions == b[name].dimensions, (name, b[name].dimensions)
    assert np.array_equal(a[name][:], b[name][:]) and a[name].dtype == b[name].dtype
    assert a[name].ncattrs() == b[name].ncattrs(), (a[name].ncattrs(), b[name].ncattrs())
assert b['g/w'].dimensions == ('x',) and b['temp'].units == 'K' and b['temp']._FillValue == -9
"#,
    );
}
