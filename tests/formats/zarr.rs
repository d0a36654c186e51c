//! Zarr v2 and v3, both directions against zarr-python, numcodecs, xarray and tensorstore;
//! refusals; damage.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use npk::error::{Error, ErrorKind};
use npk::format::{Compression, Existing, Format, Order, ReadOptions, WriteOptions};
use npk::formats::hierarchical::zarr::Zarr;
use npk::model::{ArrayMeta, Chunk, Plan, Values};
use npk::pipe;
use npk::storage::{Backend, Blob, Entry, EntryKind, Location};

use crate::support::library::failing_mutants;
use crate::support::{self, Scratch};

/// Everything of a hierarchy: per array its type, shape and bytes (text: items joined by `|`).
type Contents = BTreeMap<String, (String, Vec<u64>, Vec<u8>)>;

fn read_with(path: &Path, options: &ReadOptions, jobs: usize) -> Result<(Plan, Contents), Error> {
    let source = Zarr.open(&Location::local(path), options)?;
    let plan = source.plan().clone();
    let mut contents: Contents = plan
        .arrays
        .iter()
        .map(|a| (a.name.clone(), (a.type_name(), a.shape().unwrap_or_default(), Vec::new())))
        .collect();
    let mut take = |chunk: Chunk| -> npk::error::Result<()> {
        let out = &mut contents.get_mut(&plan.arrays[chunk.array].name).unwrap().2;
        match &chunk.values {
            Values::Fixed(bytes) => out.extend_from_slice(bytes),
            Values::Var { .. } => {
                for row in 0..chunk.rows as usize {
                    out.extend_from_slice(chunk.text(row));
                    out.push(b'|');
                }
            }
            Values::Nested(_) => unreachable!(),
        }
        Ok(())
    };
    pipe::drain(
        source,
        Order::ArrayByArray,
        &mut take,
        &pipe::Settings::new(jobs, options.resources.memory_bytes()),
    )?;
    Ok((plan, contents))
}

fn read(path: &Path) -> (Plan, Contents) {
    read_with(path, &ReadOptions::default(), 2).unwrap()
}

fn meta<'a>(plan: &'a Plan, name: &str) -> &'a ArrayMeta {
    &plan.arrays[plan.position(name).unwrap_or_else(|| panic!("no array {name}"))]
}

/// Runs Python that fills `out` (name → numpy array) and writes a store; returns what `out` holds.
fn by_python(scratch: &Scratch, code: &str) -> Contents {
    let code = format!(
        "{PRELUDE}\nout = {{}}\n{code}\n\
         with open('truth.bin','wb') as f:\n    for k,v in out.items():\n        dump(f,k,v)\n"
    );
    support::python(scratch.path(), &code);
    truth(&scratch.join("truth.bin"))
}

/// Names, types, shapes and bytes as Python sees them.
fn truth(path: &Path) -> Contents {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut all = Contents::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n').unwrap();
        let line: serde_json::Value = serde_json::from_slice(&rest[..end]).unwrap();
        let n = line["bytes"].as_u64().unwrap() as usize;
        let shape = line["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
        all.insert(
            line["name"].as_str().unwrap().into(),
            (line["dtype"].as_str().unwrap().into(), shape, rest[end + 1..end + 1 + n].to_vec()),
        );
        rest = &rest[end + 1 + n..];
    }
    all
}

const PRELUDE: &str = r#"
import json, os, warnings
warnings.filterwarnings('ignore')
import numpy as np, zarr, numcodecs
def dump(f, name, a):
    a = np.asarray(a)
    if a.dtype.kind in 'UTO':
        t = 'string' if not (a.size and isinstance(a.reshape(-1)[0], bytes)) else 'binary'
        raw = b''.join((x if isinstance(x, bytes) else str(x).encode()) + b'|' for x in a.reshape(-1).tolist())
    elif a.dtype.kind == 'S':
        t, raw = 'binary', b''.join(x + b'|' for x in a.reshape(-1).tolist())
    else:
        t = a.dtype.name
        raw = np.ascontiguousarray(a.astype(a.dtype.newbyteorder('<'))).tobytes()
    f.write((json.dumps(dict(name=name, dtype=t, shape=list(a.shape), bytes=len(raw))) + '\n').encode() + raw)
def arr(shape, dtype, seed=0):
    r = np.random.default_rng(seed)
    n = int(np.prod(shape))
    d = np.dtype(dtype)
    if d.kind == 'b': a = r.integers(0, 2, n).astype(d)
    elif d.kind in 'iu': a = r.integers(0, 100, n).astype(d)
    elif d.kind == 'c': a = (r.normal(size=n) + 1j*r.normal(size=n)).astype(d)
    elif d.kind in 'Mm': a = r.integers(-1000, 100000, n).astype('i8').view(d)
    else: a = r.normal(size=n).astype(d)
    return a.reshape(shape)
"#;

#[track_caller]
fn same(got: &Contents, want: &Contents) {
    assert!(!want.is_empty());
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, (dtype, shape, bytes)) in want {
        let (d, s, b) = &got[name];
        assert_eq!((d, s), (dtype, shape), "{name}");
        assert!(
            b == bytes,
            "{name}: the values differ: {:?} … {:?} …",
            &b[..b.len().min(64)],
            &bytes[..bytes.len().min(64)]
        );
    }
}

/// Every type, both versions, with nested groups, consolidated and not.
#[test]
#[ignore = "asks the real libraries"]
fn types_by_zarr_python() {
    for version in [2, 3] {
        let scratch = Scratch::new();
        let want = by_python(
            &scratch,
            &format!(
                r#"
v = {version}
g = zarr.open_group('s.zarr', mode='w', zarr_format=v, attributes={{'title': 'root', 'nan': float('nan')}})
for d in ['b1','i1','i2','i4','i8','u1','u2','u4','u8','f2','f4','f8','c8','c16']:
    a = arr((37, 5), d); out['num/'+d] = a
    g.create_array('num/'+d, data=a, chunks=(10, 3))
for d in ['>i2','>f8','>c16'] if v == 2 else []:
    a = arr((11,), d); n = 'big' + d[1:]; out[n] = a
    g.create_array(n, data=a, chunks=(4,))
for n, d in [('dt','M8[ns]'), ('dts','M8[25s]'), ('td','m8[us]')]:
    a = arr((9,), d); out[n] = a
    g.create_array(n, data=a, chunks=(4,))
out['U'] = np.array(['a','héllo','','日本'], 'U5'); g.create_array('U', data=out['U'], chunks=(3,))
out['S'] = np.array([b'a',b'bc',b''], 'S4'); g.create_array('S', data=out['S'], chunks=(2,))
words = ['x','', 'zwölf', 'y'*300, 'end']
s = g.create_array('words', shape=(5,), dtype='string', chunks=(2,)); s[:] = np.array(words, dtype=object if v == 2 else 'T')
out['words'] = np.array(words, dtype=object)
out['scalar'] = np.array(2.5); g.create_array('scalar', data=out['scalar'])
out['none'] = np.zeros((0, 3), 'f4'); g.create_array('none', shape=(0,3), chunks=(4,3), dtype='f4')
st = np.zeros(7, [('a','<i4'),('b','<f8')]); st['a'] = np.arange(7); st['b'] = np.arange(7)/2
g.create_array('st', data=st, chunks=(3,)); out['st.a'] = st['a']; out['st.b'] = st['b']
m = g.create_array('missing', shape=(10,4), chunks=(3,4), dtype='f8', fill_value=1.5); m[3:6] = 7
out['missing'] = m[:]
nanf = g.create_array('nanfill', shape=(5,), chunks=(2,), dtype='f4', fill_value=float('nan')); out['nanfill'] = nanf[:]
c = g.create_array('deep/er/c3', data=arr((6,7,8),'i2'), chunks=(4,3,5), attributes={{'units': 'm'}}); out['deep/er/c3'] = c[:]
"#
            ),
        );
        let (plan, got) = read(&scratch.join("s.zarr"));
        same(&got, &want);
        assert_eq!(plan.attributes["title"], "root");
        assert_eq!(plan.attributes["nan"], "NaN");
        assert_eq!(meta(&plan, "deep/er/c3").details.attributes["units"], "m");
        assert!(plan.groups.contains_key("deep/er"));
        assert_eq!(plan.format_version.as_deref(), Some(if version == 2 { "v2" } else { "v3" }));
        // Consolidated, then a group alone, then zipped.
        support::python(
            scratch.path(),
            "import zarr,warnings; warnings.filterwarnings('ignore'); zarr.consolidate_metadata('s.zarr')\n\
             import shutil; shutil.make_archive('z', 'zip', 's.zarr'); shutil.move('z.zip', 's.zarr.zip')",
        );
        same(&read(&scratch.join("s.zarr")).1, &want);
        same(&read(&scratch.join("s.zarr.zip")).1, &want);
        let options = ReadOptions { group: Some("/deep/".into()), ..ReadOptions::default() };
        let (plan, got) = read_with(&scratch.join("s.zarr"), &options, 1).unwrap();
        assert_eq!(got.keys().collect::<Vec<_>>(), ["deep/er/c3"]);
        assert!(!plan.groups.contains_key("num"));
        let options = ReadOptions { group: Some("nowhere".into()), ..ReadOptions::default() };
        assert_eq!(
            read_with(&scratch.join("s.zarr"), &options, 1).unwrap_err().kind(),
            ErrorKind::Missing
        );
    }
}

/// Every codec and filter that is read.
#[test]
#[ignore = "asks the real libraries"]
fn codecs() {
    let scratch = Scratch::new();
    let want = by_python(
        &scratch,
        r#"
import numcodecs as n
g = zarr.open_group('s.zarr', mode='w', zarr_format=2)
comps = {'zstd': n.Zstd(3), 'gzip': n.GZip(5), 'zlib': n.Zlib(1), 'bz2': n.BZ2(1), 'lz4': n.LZ4(), 'lzma': n.LZMA(),
  'lzma_alone': n.LZMA(format=2), 'lzma_raw': n.LZMA(format=3, filters=[{'id': 3, 'dist': 4}, {'id': 0x21, 'preset': 1}])}
for c in ['blosclz','lz4','lz4hc','zlib','zstd']:
    for s in (0, 1, 2):
        comps[f'blosc_{c}_{s}'] = n.Blosc(cname=c, clevel=5, shuffle=s)
for k, c in comps.items():
    for d in ('i4', 'f8'):
        a = np.sort(arr((300, 7), d), axis=None).reshape(300, 7); out[k + d] = a
        g.create_array(k + d, data=a, chunks=(128, 7), compressors=c)
i4 = np.cumsum(arr((100,), 'i4')).astype('i4')
filters = {
 'delta': ([n.Delta('<i4')], i4), 'delta_i2': ([n.Delta('<i4', '<i2')], i4), 'delta_f4': ([n.Delta('<f4')], arr((100,), 'f4')),
 'delta_big': ([n.Delta('>i4')], i4.astype('>i4')),
 'fso': ([n.FixedScaleOffset(offset=1000, scale=10, dtype='<f8', astype='<u2')], 1000 + np.abs(arr((100,), 'f8'))),
 'fso4': ([n.FixedScaleOffset(offset=10, scale=7, dtype='<f4', astype='<i4')], arr((100,), 'f4')),
 'quant': ([n.Quantize(3, '<f8', '<f4')], arr((100,), 'f8')), 'bits': ([n.PackBits()], arr((101,), 'b1')),
 'shuf': ([n.Shuffle(4)], i4), 'astype': ([n.AsType('<i2', '<i8')], arr((50,), 'i8')), 'round': ([n.BitRound(10)], arr((50,), 'f4')),
 'crc32': ([n.CRC32()], i4), 'adler': ([n.Adler32()], i4), 'fletcher': ([n.Fletcher32()], i4), 'crc32c': ([n.CRC32C()], i4),
 'many': ([n.Delta('<i4'), n.Shuffle(4), n.Zlib(3), n.CRC32()], i4)}
for k, (f, a) in filters.items():
    x = g.create_array(k, data=a, chunks=(40,), filters=f, compressors=n.Zstd(1)); out[k] = x[:]
f = arr((13, 11, 5), 'f4'); out['F'] = f; g.create_array('F', data=f, chunks=(4, 5, 3), order='F')
g.create_array('slash', data=f, chunks=(4, 5, 3), chunk_key_encoding={'name': 'v2', 'separator': '/'}); out['slash'] = f
g.create_array('raw', data=f, chunks=(4, 11, 5), compressors=None); out['raw'] = f
"#,
    );
    same(&read(&scratch.join("s.zarr")).1, &want);
    let scratch = Scratch::new();
    let want = by_python(
        &scratch,
        r#"
from zarr.codecs import *
import numcodecs.zarr3 as n3
g = zarr.open_group('s.zarr', mode='w', zarr_format=3)
f = arr((13, 11, 5), 'f4'); i4 = np.cumsum(arr((100,), 'i4')).astype('i4')
def mk(k, a, **kw):
    x = g.create_array(k, data=a, **kw); out[k] = x[:]
mk('zstd', f, chunks=(4,5,3), compressors=ZstdCodec(level=1, checksum=True))
mk('gzip', f, chunks=(4,5,3), compressors=GzipCodec(level=1))
for s in ('noshuffle','shuffle','bitshuffle'): mk('blosc'+s, f, chunks=(4,5,3), compressors=BloscCodec(cname='lz4', shuffle=s, typesize=4))
mk('crc', f, chunks=(4,5,3), compressors=[ZstdCodec(), Crc32cCodec()])
mk('tr', f, chunks=(4,5,3), filters=[TransposeCodec(order=(2,0,1))])
mk('big', f, chunks=(4,5,3), serializer=BytesCodec(endian='big'))
mk('dots', f, chunks=(4,5,3), chunk_key_encoding={'name': 'default', 'separator': '.'})
mk('v2keys', f, chunks=(4,5,3), chunk_key_encoding={'name': 'v2', 'separator': '.'})
mk('raw', f, chunks=(4,11,5), compressors=None)
mk('rawnarrow', f, chunks=(4,2,5), compressors=None)
mk('sh', f, chunks=(2,5,5), shards=(4,10,5))
mk('shwide', f, chunks=(2,11,5), shards=(8,11,5), compressors=None)
mk('sh1', i4, chunks=(10,), shards=(50,))
part = g.create_array('shpart', shape=(100, 6), chunks=(5, 3), shards=(20, 6), dtype='i4', fill_value=9); part[33:47, 2:] = 5; out['shpart'] = part[:]
words = g.create_array('shwords', shape=(30,), chunks=(3,), shards=(15,), dtype='string'); words[:] = np.array([str(i)*i for i in range(30)], 'T'); out['shwords'] = np.array([str(i)*i for i in range(30)], object)
mk('delta', i4, chunks=(40,), filters=[n3.Delta(dtype='<i4')])
mk('fso', arr((50,), 'f8'), chunks=(20,), filters=[n3.FixedScaleOffset(offset=0, scale=100, dtype='<f8', astype='<i4')])
mk('bits', arr((64,), 'b1'), chunks=(32,), filters=[n3.PackBits()])
mk('lz4', i4, chunks=(40,), compressors=[n3.Shuffle(elementsize=4), n3.LZ4()])
mk('bz2', i4, chunks=(40,), compressors=[n3.BZ2(), n3.CRC32()])
mk('lzma', i4, chunks=(40,), compressors=[n3.LZMA()])
mk('zlib', i4, chunks=(40,), compressors=[n3.Zlib(), n3.Fletcher32(), n3.Adler32()])
inner = ShardingCodec(chunk_shape=(2,11,5), index_location='start')
zarr.create_array('s.zarr/nested', data=f, chunks=(8,11,5), serializer=ShardingCodec(chunk_shape=(4,11,5), codecs=[inner]), compressors=None); out['nested'] = f
zarr.create_array('s.zarr/packed', data=f, chunks=(4,4,5), filters=[TransposeCodec(order=(1,0,2))], serializer=ShardingCodec(chunk_shape=(2,4,5), codecs=[BytesCodec(), GzipCodec()]), compressors=[ZstdCodec()]); out['packed'] = f
"#,
    );
    same(&read(&scratch.join("s.zarr")).1, &want);
}

/// Text in Fortran order; dimensions in another order ahead of shards, and shards in shards; codecs
/// around shards.
#[test]
#[ignore = "asks the real libraries"]
fn orders_and_shards() {
    let scratch = Scratch::new();
    let want = by_python(
        &scratch,
        r#"
from zarr.codecs import *
import numcodecs.zarr3 as n3
t = np.array([['w%d.%d' % (i, j) * (i % 3) for j in range(5)] for i in range(7)], object)
g = zarr.open_group('2.zarr', mode='w', zarr_format=2)
for name, chunks in (('narrow', (3, 2)), ('wide', (3, 5))):
    g.create_array(name, shape=t.shape, dtype='string', chunks=chunks, order='F')[:] = t; out['2/' + name] = t
a = np.arange(13 * 7 * 9, dtype='f4').reshape(13, 7, 9)
i = np.cumsum(np.arange(100)).astype('i4')
def make(name, data, chunks, filters, codecs, inner, behind=None, **kw):
    x = zarr.create_array('3.zarr/' + name, shape=data.shape, dtype='string' if data is t else data.dtype, chunks=chunks, filters=filters,
        serializer=ShardingCodec(chunk_shape=inner, codecs=codecs, **kw), compressors=behind)
    x[:] = data; out['3/' + name] = x[:]
zarr.open_group('3.zarr', mode='w')
make('turned', a, (6, 6, 6), [TransposeCodec(order=(2, 0, 1))], [TransposeCodec(order=(1, 2, 0)), BytesCodec(), GzipCodec()], (3, 2, 6))
inner = ShardingCodec(chunk_shape=(1, 2, 3), codecs=[TransposeCodec(order=(2, 1, 0)), BytesCodec()], index_location='start')
make('nested', a, (6, 6, 6), [TransposeCodec(order=(1, 2, 0))], [inner], (2, 6, 6))
make('twice', a, (6, 6, 6), [TransposeCodec(order=(1, 2, 0))], [TransposeCodec(order=(1, 2, 0)), inner], (6, 6, 6))
make('filtered', i, (40,), [n3.Delta(dtype='<i4')], [BytesCodec(), GzipCodec()], (10,))
make('packed', t, (6, 4), None, [VLenUTF8Codec()], (3, 2), [ZstdCodec(), Crc32cCodec()])
part = zarr.create_array('3.zarr/part', shape=(12, 8), dtype='string', chunks=(3, 2), shards=(6, 4), fill_value='none')
part[3:5, 1:7] = 'here'; out['3/part'] = part[:].astype(object)
"#,
    );
    let mut got = Contents::new();
    for version in ["2", "3"] {
        let source = Zarr
            .open(
                &Location::local(scratch.join(&format!("{version}.zarr"))),
                &ReadOptions::default(),
            )
            .unwrap();
        let plan = source.plan().clone();
        let mut take = |chunk: Chunk| -> npk::error::Result<()> {
            let meta = &plan.arrays[chunk.array];
            let all = got.entry(format!("{version}/{}", meta.name)).or_default();
            match (&chunk.values, meta.coded_text()) {
                (Values::Fixed(codes), Some(_)) => {
                    let (offsets, values) = meta.coded_items(codes)?;
                    offsets.windows(2).for_each(|w| {
                        all.2.extend_from_slice(&values[w[0] as usize..w[1] as usize]);
                        all.2.push(b'|');
                    });
                }
                (Values::Fixed(bytes), None) => all.2.extend_from_slice(bytes),
                _ => panic!("text of one dimension"),
            }
            Ok(())
        };
        let settings = pipe::Settings::new(2, 64 << 20);
        pipe::drain(source, Order::ArrayByArray, &mut take, &settings).unwrap();
    }
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, (_, _, bytes)) in &want {
        assert!(got[name].2 == *bytes, "{name}");
    }
}

/// Chunks that are stored as they are in a zip are compared with their checksums.
#[test]
#[ignore = "asks the real libraries"]
fn checksums_of_zips() {
    let scratch = Scratch::new();
    support::python(
        scratch.path(),
        "
import zarr, numpy as np, warnings
warnings.simplefilter('ignore')
with zarr.storage.ZipStore('s.zarr.zip', mode='w') as store:
    g = zarr.open_group(store, mode='w')
    g.create_array('a', data=np.arange(100_000, dtype='i4').reshape(-1, 10), chunks=(1000, 10), compressors=None)
    g.create_array('b', data=np.arange(1000, dtype='i4').reshape(-1, 10), chunks=(100, 5), compressors=None)
with zarr.storage.ZipStore('t.zarr.zip', mode='w') as store:
    zarr.create_array(store, data=np.arange(1000, dtype='i4'), chunks=(100,), shards=(1000,), compressors=None)
",
    );
    // Parts of shards are read without the others; verifying reads all.
    let shards = scratch.join("t.zarr.zip");
    support::npk(&["verify", &shards.display().to_string()]);
    let mut bytes = std::fs::read(&shards).unwrap();
    let at = bytes.windows(8).position(|w| w == [0x71, 1, 0, 0, 0x72, 1, 0, 0]).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&shards, bytes).unwrap();
    support::npk_fails(7, &["verify", &shards.display().to_string()]);
    let path = scratch.join("s.zarr.zip");
    assert!(read(&path).1["a"].2[4..8] == [1, 0, 0, 0]);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|w| w == [0x71, 1, 0, 0, 0x72, 1, 0, 0]).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = read_with(&path, &ReadOptions::default(), 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("the chunk c/0/0"), "{error}");
}

/// Copies a store through the pipe into another.
fn copy(from: &Path, to: &Path, options: &WriteOptions, memory_bytes: u64) -> Result<(), Error> {
    let source = Zarr.open(
        &Location::local(from),
        &ReadOptions {
            resources: npk::format::Resources::new(2, memory_bytes),
            ..ReadOptions::default()
        },
    )?;
    let at = Location::local(to);
    let prepared = Zarr.prepare(&at, source.plan(), options)?;
    pipe::run(
        source,
        Zarr.spec().writes.as_ref().unwrap(),
        prepared,
        &pipe::Settings::new(2, memory_bytes),
    )
    .map(|_| ())
}

fn of_version(version: u8) -> WriteOptions {
    WriteOptions { zarr_format: Some(version), ..WriteOptions::default() }
}

fn packed(name: &str, level: Option<i32>) -> Option<Compression> {
    Some(Compression { name: name.into(), level })
}

const MIXED: &str = r#"
g = zarr.open_group('a.zarr', mode='w', zarr_format=3, attributes={'title': 'root'})
for d in ['b1','i1','i2','i4','i8','u1','u2','u4','u8','f2','f4','f8','c8','c16']:
    a = arr((37, 5), d); out['num/'+d] = a
    g.create_array('num/'+d, data=a, chunks=(10, 3))
for n, d in [('dt','M8[ns]'), ('dts','M8[25s]'), ('td','m8[us]')]:
    a = arr((9,), d); out[n] = a
    g.create_array(n, data=a, chunks=(4,))
out['words'] = np.array(['x','', 'zwölf', 'y'*300, 'end'], dtype=object)
s = g.create_array('words', shape=(5,), dtype='string', chunks=(2,)); s[:] = out['words'].astype('T')
out['scalar'] = np.array(2.5); g.create_array('scalar', data=out['scalar'])
out['none'] = np.zeros((0, 3), 'f4'); g.create_array('none', shape=(0,3), chunks=(4,3), dtype='f4')
out['none2'] = np.zeros((4, 0), 'f4'); g.create_array('none2', shape=(4,0), chunks=(4,1), dtype='f4')
a = arr((60,50,8),'f4'); out['deep/er/c3'] = a
g.create_array('deep/er/c3', data=a, chunks=(7,50,5), attributes={'units': 'm'}, dimension_names=['t', 'x', None])
g['deep'].attrs['note'] = 'a group'
"#;

/// What Python reads from a store that we wrote.
const READ_BACK: &str = r#"
def walk(g, pre=''):
    for k, v in sorted(g.members()):
        if isinstance(v, zarr.Group): walk(v, pre + k + '/')
        else: out[pre + k] = np.asarray(v[...] if v.ndim or True else v[()])
g = zarr.open_group(STORE, mode='r')
walk(g)
"#;

#[test]
#[ignore = "asks the real libraries"]
fn written_for_zarr_python() {
    let scratch = Scratch::new();
    let want = by_python(&scratch, MIXED);
    let variants: Vec<(&str, WriteOptions)> = vec![
        ("3.zarr", WriteOptions::default()),
        ("2.zarr", WriteOptions { zarr_format: Some(2), ..WriteOptions::default() }),
        (
            "blosc3.zarr",
            WriteOptions { compression: packed("blosc", None), ..WriteOptions::default() },
        ),
        (
            "blosc2.zarr",
            WriteOptions {
                compression: packed("blosc", Some(9)),
                zarr_format: Some(2),
                ..WriteOptions::default()
            },
        ),
        (
            "gzip3.zarr",
            WriteOptions { compression: packed("gzip", Some(1)), ..WriteOptions::default() },
        ),
        (
            "gzip2.zarr",
            WriteOptions {
                compression: packed("gzip", None),
                zarr_format: Some(2),
                ..WriteOptions::default()
            },
        ),
        (
            "none3.zarr",
            WriteOptions { compression: packed("none", None), ..WriteOptions::default() },
        ),
        (
            "shape.zarr",
            WriteOptions {
                chunk_shape: Some(vec![11, 2]),
                shard_shape: Some(vec![22, 4]),
                ..WriteOptions::default()
            },
        ),
        (
            "shard1.zarr",
            WriteOptions {
                shard_shape: Some(vec![4]),
                chunk_shape: Some(vec![2]),
                ..WriteOptions::default()
            },
        ),
        (
            "shard3.zarr",
            WriteOptions { shard_shape: Some(vec![8, 20, 8]), ..WriteOptions::default() },
        ),
        ("zip3.zarr.zip", WriteOptions::default()),
        ("zip2.zarr.zip", WriteOptions { zarr_format: Some(2), ..WriteOptions::default() }),
    ];
    let mut code = String::from("truths = {}\n");
    for (name, options) in &variants {
        copy(&scratch.join("a.zarr"), &scratch.join(name), options, 256 << 20).unwrap();
        let (plan, got) = read(&scratch.join(name));
        same(&got, &want);
        assert_eq!(plan.attributes["title"], "root", "{name}");
        assert_eq!(plan.groups["deep"]["note"], "a group", "{name}");
        let c3 = meta(&plan, "deep/er/c3");
        assert_eq!(c3.details.attributes["units"], "m", "{name}");
        assert_eq!(
            c3.details.attributes["_ARRAY_DIMENSIONS"],
            serde_json::json!(["t", "x", null]),
            "{name}"
        );
        if !name.starts_with("sh") {
            assert_eq!(
                c3.details.chunks,
                Some(vec![7, 50, 5]),
                "{name}: the source's chunks are kept"
            );
        }
        let store = if name.ends_with("zip") {
            format!("zarr.storage.ZipStore('{name}', mode='r')")
        } else {
            format!("'{name}'")
        };
        code += &format!(
            "out = {{}}\nSTORE = {store}\n{READ_BACK}\nassert g.attrs['title'] == 'root' and g['deep'].attrs['note'] == 'a group'\n"
        );
        code += "assert g['deep/er/c3'].attrs['units'] == 'm'\n";
        code += &format!(
            "with open('{name}.bin','wb') as f:\n    for k,v in out.items(): dump(f,k,v)\n"
        );
    }
    support::python(scratch.path(), &format!("{PRELUDE}\n{code}"));
    for (name, _) in &variants {
        same(&truth(&scratch.join(&format!("{name}.bin"))), &want);
    }
    // Little memory: pieces smaller than chunk rows.
    copy(
        &scratch.join("3.zarr"),
        &scratch.join("small.zarr"),
        &WriteOptions { chunk_shape: Some(vec![1, 7, 3]), ..WriteOptions::default() },
        1 << 20,
    )
    .unwrap();
    same(&read(&scratch.join("small.zarr")).1, &want);
}

/// xarray and tensorstore, both directions.
#[test]
#[ignore = "asks the real libraries"]
fn xarray_and_tensorstore() {
    let scratch = Scratch::new();
    let want = by_python(
        &scratch,
        r#"
import xarray as xr, tensorstore as ts
t = np.array(['2020-01-01', '2020-01-02', '2020-01-03'], 'M8[ns]')
ds = xr.Dataset({'temp': (('time', 'x'), arr((3, 4), 'f8')), 'n': ('x', np.arange(4, dtype='i4'))}, coords={'time': t, 'x': np.arange(4.)}, attrs={'title': 'weather'})
ds['temp'].values[1, 2] = np.nan
for v in (2, 3):
    ds.to_zarr(f'x{v}.zarr', zarr_format=v)
    g = zarr.open_group(f'x{v}.zarr', mode='r')
    for k in g.array_keys(): out[f'x{v}/{k}'] = g[k][...]
import ml_dtypes
for driver in ('zarr', 'zarr3'):
    for d in ['bfloat16', 'float8_e4m3fn', 'float8_e5m2', 'float32', 'int64', 'bool']:
        a = np.arange(50).reshape(10, 5).astype(getattr(ml_dtypes, d) if d[:4] in ('bflo', 'floa') and d != 'float32' else d)
        chunks = {'chunks': [4, 5]} if driver == 'zarr' else {'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [4, 5]}}}
        s = ts.open({'driver': driver, 'kvstore': {'driver': 'file', 'path': f'{driver}/g/{d}'}, 'metadata': chunks}, dtype=getattr(ts, d), shape=[10, 5], create=True).result()
        s.write(a).result()
        b = s.read().result()
        out[f'{driver}/g/{d}'] = b
    open(f'{driver}/' + ('.zgroup' if driver == 'zarr' else 'zarr.json'), 'w').write(json.dumps({'zarr_format': 2} if driver == 'zarr' else {'zarr_format': 3, 'node_type': 'group', 'attributes': {}}))
"#,
    );
    let mut code = String::from("import xarray as xr, tensorstore as ts\n");
    for store in ["x2", "x3", "zarr", "zarr3"] {
        let path = scratch.join(
            if store.starts_with('x') { format!("{store}.zarr") } else { store.to_string() }
                .as_str(),
        );
        let (_, got) = read(&path);
        let part: Contents = want
            .iter()
            .filter_map(|(k, v)| {
                Some((k.strip_prefix(&format!("{store}/"))?.to_string(), v.clone()))
            })
            .map(|(k, (d, s, b))| {
                (k, (if d == "datetime64" { "datetime64[ns]".into() } else { d }, s, b))
            })
            .collect();
        same(&got, &part);
        for version in [2u8, 3] {
            let to = format!("{store}-{version}.zarr");
            copy(&path, &scratch.join(&to), &of_version(version), 64 << 20).unwrap();
            if store.starts_with('x') {
                code += &format!(
                    "a = xr.open_zarr('{store}.zarr'); b = xr.open_zarr('{to}')\nxr.testing.assert_identical(a.load(), b.load())\n"
                );
            } else {
                code += &format!(
                    r#"
for d in os.listdir('{to}/g'):
    if d[0] == '.' or d == 'zarr.json': continue
    s = ts.open({{'driver': '{driver}', 'kvstore': {{'driver': 'file', 'path': '{to}/g/' + d}}}}).result().read().result()
    r = ts.open({{'driver': '{store}', 'kvstore': {{'driver': 'file', 'path': '{store}/g/' + d}}}}).result().read().result()
    assert s.dtype == r.dtype and s.tobytes() == r.tobytes(), d
"#,
                    driver = if version == 2 { "zarr" } else { "zarr3" }
                );
            }
        }
    }
    // Arrays without dimension names open in xarray, too, and do not get any on the way back.
    let plain = by_python(
        &scratch,
        "g = zarr.open_group('p.zarr', mode='w')\nfor k, s in (('a', (3, 4)), ('g/b', (3, 5)), ('s', ())):\n    out[k] = arr(s, 'f4'); g.create_array(k, data=out[k])",
    );
    for version in [2u8, 3] {
        let to = format!("p{version}.zarr");
        copy(&scratch.join("p.zarr"), &scratch.join(&to), &of_version(version), 64 << 20).unwrap();
        code += &format!(
            "assert xr.open_zarr('{to}').load()['a'].shape == (3, 4)\nassert xr.open_zarr('{to}', group='g').load()['b'].shape == (3, 5)\n"
        );
        let (plan, got) = read(&scratch.join(&to));
        same(&got, &plain);
        assert!(plan.arrays.iter().all(|a| a.details.attributes.is_empty()));
    }
    support::python(scratch.path(), &format!("{PRELUDE}\n{code}"));
}

/// What is refused, each by name, none hiding the others.
#[test]
#[ignore = "asks the real libraries"]
fn refusals_by_name() {
    let scratch = Scratch::new();
    by_python(
        &scratch,
        r#"
out['good'] = np.arange(3)
g = zarr.open_group('s.zarr', mode='w', zarr_format=2); g.create_array('good', data=np.arange(3))
def v2(name, **kw):
    os.makedirs('s.zarr/' + name, exist_ok=True)
    json.dump({**dict(zarr_format=2, shape=[3], chunks=[3], dtype='<i4', compressor=None, filters=None, fill_value=0, order='C'), **kw}, open(f's.zarr/{name}/.zarray', 'w'))
v2('pickled', dtype='|O', filters=[{'id': 'pickle', 'protocol': 5}])
v2('json', dtype='|O', filters=[{'id': 'json2'}])
v2('bare', dtype='|O')
v2('zfp', compressor={'id': 'zfpy'})
v2('void', dtype='|V8')
v2('text2d', dtype='<U3', shape=[3, 3], chunks=[3, 3])
v2('huge', shape=[2**52], chunks=[2**50], dtype='|u1', compressor={'id': 'zstd', 'level': 1})
v2('overflow', shape=[2**62, 2**62], chunks=[1, 1])
v2('overchunk', shape=[2**62, 2**62], chunks=[2**62, 2**62])
v2('negative', shape=[-1])
v2('zero', chunks=[0])
v2('rank', chunks=[1, 1])
v2('long', dtype='<f16')
v2('none', shape=[3, 2**40, 2**40, 0], chunks=[1, 1, 1, 1], compressor={'id': 'zstd', 'level': 1})
v2('badfill', fill_value='many')
v2('sep', dimension_separator='..')
os.makedirs('s.zarr/nojson'); open('s.zarr/nojson/.zarray', 'w').write('{"shape":')
def v3(name, **kw):
    os.makedirs('s.zarr/' + name, exist_ok=True)
    json.dump({**dict(zarr_format=3, node_type='array', shape=[8], data_type='int32', chunk_grid={'name': 'regular', 'configuration': {'chunk_shape': [4]}}, chunk_key_encoding={'name': 'default'}, fill_value=0, codecs=[{'name': 'bytes', 'configuration': {'endian': 'little'}}], attributes={}), **kw}, open(f's.zarr/{name}/zarr.json', 'w'))
v3('fine')
v3('grid', chunk_grid={'name': 'rectilinear'})
v3('codec', codecs=[{'name': 'bytes'}, {'name': 'magic'}])
v3('dtype', data_type='int4')
v3('extension', extra={'name': 'x'})
v3('harmless', extra={'name': 'x', 'must_understand': False})
v3('transformer', storage_transformers=[{'name': 'x'}])
v3('format4', zarr_format=4)
deep = [{'name': 'bytes'}]
for i in range(200): deep = [{'name': 'sharding_indexed', 'configuration': {'chunk_shape': [4], 'codecs': deep, 'index_codecs': [{'name': 'bytes'}]}}]
v3('shards', codecs=deep[:1])
v3('indivisible', codecs=[{'name': 'sharding_indexed', 'configuration': {'chunk_shape': [3], 'codecs': [{'name': 'bytes'}], 'index_codecs': [{'name': 'bytes'}]}}])
v3('manyinner', shape=[2**40], chunk_grid={'name': 'regular', 'configuration': {'chunk_shape': [2**40]}}, codecs=[{'name': 'sharding_indexed', 'configuration': {'chunk_shape': [1], 'codecs': [{'name': 'bytes'}], 'index_codecs': [{'name': 'bytes'}]}}])
"#,
    );
    let source =
        Zarr.open(&Location::local(scratch.join("s.zarr")), &ReadOptions::default()).unwrap();
    let said: BTreeMap<String, String> = source
        .plan()
        .arrays
        .iter()
        .map(|a| {
            (
                a.name.clone(),
                a.details
                    .error
                    .as_ref()
                    .map_or(String::new(), |e| format!("{:?}: {}", e.kind(), e.message())),
            )
        })
        .collect();
    let fine: Vec<_> = said.iter().filter(|(_, e)| e.is_empty()).map(|(n, _)| n.as_str()).collect();
    assert_eq!(fine, ["fine", "good", "harmless", "none", "text2d"]);
    for (name, word) in [
        ("pickled", "'pickle'"),
        ("json", "'json2'"),
        ("bare", "Refused"),
        ("zfp", "'zfpy'"),
        ("void", "'|V8'"),
        ("huge", "memory limit"),
        ("overflow", "Corrupt"),
        ("overchunk", "Corrupt"),
        ("negative", "Corrupt"),
        ("zero", "Corrupt"),
        ("rank", "Corrupt"),
        ("long", "'<f16'"),
        ("badfill", "fill value"),
        ("sep", "separator"),
        ("nojson", "not JSON"),
        ("grid", "'rectilinear'"),
        ("codec", "'magic'"),
        ("dtype", "'int4'"),
        ("extension", "'extra'"),
        ("transformer", "storage transformers"),
        ("format4", "zarr_format 4"),
        ("shards", ""),
        ("indivisible", "divide"),
        ("manyinner", "inner chunks"),
    ] {
        let text = &said[name];
        assert!(!text.is_empty() && text.contains(word), "{name}: {text:?} does not say {word:?}");
    }
    // The others are read.
    let good = source.plan().position("good").unwrap();
    assert!(source.select(&[source.plan().position("pickled").unwrap()], Order::Any).is_err());
    let mut rows = 0;
    crate::support::library::rows_of(source.as_ref(), good)
        .read(good, 0..3, &mut |c| {
            rows += c.rows;
            Ok(())
        })
        .unwrap();
    assert_eq!(rows, 3);
}

/// Both versions at one node; paths that lead elsewhere; bombs; names that Zarr cannot hold.
#[test]
#[ignore = "asks the real libraries"]
fn hostile_trees() {
    let scratch = Scratch::new();
    support::python(
        scratch.path(),
        &format!(
            "{PRELUDE}\n{}",
            r#"
g = zarr.open_group('both.zarr', mode='w', zarr_format=2); g.create_array('a', data=np.arange(3))
g = zarr.open_group('both.zarr', mode='w', zarr_format=3) if False else None
json.dump({'zarr_format': 3, 'node_type': 'group', 'attributes': {'v': 3}}, open('both.zarr/zarr.json', 'w'))
zarr.create_array('both.zarr/a', data=np.arange(5), zarr_format=3, overwrite=False) if False else None
z = zarr.create_array('other.zarr', data=np.arange(5), zarr_format=3)
import shutil
shutil.copy('other.zarr/zarr.json', 'both.zarr/a/zarr.json'); shutil.copytree('other.zarr/c', 'both.zarr/a/c')
os.makedirs('evil.zarr'); meta = json.load(open('other.zarr/zarr.json'))
json.dump({'zarr_format': 3, 'node_type': 'group', 'attributes': {}, 'consolidated_metadata': {'kind': 'inline', 'metadata': {'../other.zarr': meta, '/x': meta, 'ok': meta}}}, open('evil.zarr/zarr.json', 'w'))
os.makedirs('bomb.zarr'); open('bomb.zarr/zarr.json', 'w').write('{"zarr_format":3,"node_type":"group","attributes":{"a":[' + '0,' * 3000000 + '0]}}')
os.makedirs('nest.zarr'); open('nest.zarr/zarr.json', 'w').write('{"a":' + '[' * 100000)
os.makedirs('loop.zarr/g'); open('loop.zarr/.zgroup', 'w').write('{"zarr_format":2}'); os.symlink('../g', 'loop.zarr/g/again')
"#
        ),
    );
    let (plan, got) = read(&scratch.join("both.zarr"));
    assert_eq!(got["a"].1, [5]);
    assert!(plan.notes[0].contains("both v2 and v3"), "{:?}", plan.notes);
    let (_, got) = read(&scratch.join("other.zarr"));
    assert_eq!(got.keys().collect::<Vec<_>>(), ["other"]);
    let plan = Zarr
        .open(&Location::local(scratch.join("evil.zarr")), &ReadOptions::default())
        .unwrap()
        .plan()
        .clone();
    let bad: Vec<_> =
        plan.arrays.iter().filter(|a| a.details.error.is_some()).map(|a| a.name.as_str()).collect();
    assert_eq!(bad, ["../other.zarr", "/x"]);
    let small = ReadOptions {
        resources: npk::format::Resources::new(2, 64 << 20),
        ..ReadOptions::default()
    };
    for (name, kind) in [("bomb.zarr", ErrorKind::Refused), ("nest.zarr", ErrorKind::Corrupt)] {
        assert_eq!(read_with(&scratch.join(name), &small, 1).unwrap_err().kind(), kind, "{name}");
    }
    let plan = Zarr
        .open(&Location::local(scratch.join("loop.zarr")), &ReadOptions::default())
        .unwrap()
        .plan()
        .clone();
    assert!(plan.arrays.len() <= 1);
    let empty = scratch.join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(read_with(&empty, &small, 1).unwrap_err().kind(), ErrorKind::Missing);

    // Outputs: the other version, names, shapes.
    let other = WriteOptions { zarr_format: Some(2), ..WriteOptions::default() };
    let e =
        copy(&scratch.join("evil.zarr"), &scratch.join("x.zarr"), &other, 64 << 20).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    let e = copy(&scratch.join("other.zarr"), &scratch.join("both.zarr"), &other, 64 << 20)
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Exists);
    assert!(e.message().contains("v3 store"), "{e}");
    assert!(!scratch.join("x.zarr").exists());
    for (options, word) in [
        (WriteOptions { zarr_format: Some(4), ..WriteOptions::default() }, "no Zarr format 4"),
        (WriteOptions { compression: packed("snappy", None), ..WriteOptions::default() }, "snappy"),
        (
            WriteOptions { compression: packed("gzip", Some(12)), ..WriteOptions::default() },
            "level 12",
        ),
        (WriteOptions { chunk_shape: Some(vec![1, 1]), ..WriteOptions::default() }, "2 dimensions"),
        (WriteOptions { chunk_shape: Some(vec![0]), ..WriteOptions::default() }, "has a 0 in it"),
        (
            WriteOptions { chunk_shape: Some(vec![1 << 50]), ..WriteOptions::default() },
            "memory limit",
        ),
        (
            WriteOptions {
                chunk_shape: Some(vec![2]),
                shard_shape: Some(vec![3]),
                ..WriteOptions::default()
            },
            "multiple",
        ),
        (
            WriteOptions {
                shard_shape: Some(vec![4]),
                zarr_format: Some(2),
                ..WriteOptions::default()
            },
            "no shards",
        ),
    ] {
        let e = copy(&scratch.join("other.zarr"), &scratch.join("y.zarr"), &options, 64 << 20)
            .unwrap_err();
        assert!(
            e.kind() == ErrorKind::Usage && e.message().contains(word),
            "{e:?} does not say {word}"
        );
    }
    for name in ["a//b", "../a", "a/zarr.json", "__x", "x/.."] {
        let plan = Plan {
            arrays: vec![ArrayMeta::new(name, npk::model::Dtype::U8, &[1])].into(),
            ..Plan::default()
        };
        assert_eq!(refusals(&plan), 1, "{name}");
    }
    let two = ["a", "a/b"].map(|n| ArrayMeta::new(n, npk::model::Dtype::U8, &[1]));
    assert_eq!(refusals(&Plan { arrays: two.to_vec().into(), ..Plan::default() }), 1);
}

/// Damaged metadata, chunks, shards and zips: an error or values, never a panic.
#[test]
#[ignore = "asks the real libraries"]
fn mutants() {
    let scratch = Scratch::new();
    support::python(
        scratch.path(),
        &format!(
            "{PRELUDE}\n{}",
            r#"
import numcodecs as n
from zarr.codecs import *
g = zarr.open_group('2.zarr', mode='w', zarr_format=2)
a = np.arange(600, dtype='i4').reshape(100, 6)
for k, c in dict(zstd=n.Zstd(1), gzip=n.GZip(1), zlib=n.Zlib(1), bz2=n.BZ2(1), lz4=n.LZ4(), lzma=n.LZMA(), blosc=n.Blosc('lz4'), blosc2=n.Blosc('zstd', shuffle=2), blosc3=n.Blosc('blosclz'), blosc4=n.Blosc('zlib')).items():
    g.create_array(k, data=a, chunks=(100, 6), compressors=c)
g.create_array('filters', data=a, chunks=(100, 6), filters=[n.Delta('<i4'), n.Shuffle(4), n.CRC32()], compressors=None, order='F')
s = g.create_array('words', shape=(30,), chunks=(30,), dtype='string', compressors=None); s[:] = np.array(['w' * i for i in range(30)], object)
g.create_array('fixed', data=np.array(['a', 'bc', 'def']), compressors=None)
g = zarr.open_group('3.zarr', mode='w', zarr_format=3)
g.create_array('sharded', data=a, chunks=(10, 3), shards=(100, 6))
st = np.zeros(7, [('a','<i4'),('b','<f8')]); g.create_array('st', data=st, chunks=(3,))
g.create_array('dt', data=a[:, 0].astype('M8[s]'), chunks=(30,))
import shutil; shutil.make_archive('z', 'zip', '3.zarr'); zarr.consolidate_metadata('3.zarr')
"#
        ),
    );
    fn files(at: &Path, out: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, out) } else { out.push(path) }
        }
    }
    let (mut count, mut failed) = (0, 0);
    let mut damage = |root: &Path, file: &Path, mutants: usize| {
        count += mutants;
        failed += failing_mutants("zarr", root, file, mutants);
    };
    for store in ["2.zarr", "3.zarr"] {
        let mut all = Vec::new();
        files(&scratch.join(store), &mut all);
        for file in all.into_iter().filter(|file| file.metadata().unwrap().len() > 0) {
            let is_meta = file.file_name().unwrap().to_string_lossy().contains('z');
            // One array alone, so that each mutant is cheap.
            let root = file
                .ancestors()
                .find(|p| p.parent().is_some_and(|p| p.ends_with(store)))
                .filter(|p| p.is_dir());
            damage(root.unwrap_or(&scratch.join(store)), &file, if is_meta { 40 } else { 120 });
        }
    }
    std::fs::rename(scratch.join("z.zip"), scratch.join("z.zarr.zip")).unwrap();
    damage(&scratch.join("z.zarr.zip"), &scratch.join("z.zarr.zip"), 400);
    assert!(count > 2000 && failed > count / 4, "{failed} of {count}");
}

/// Objects in memory that count what is asked of them.
#[derive(Default)]
pub struct Objects {
    pub all: BTreeMap<String, Vec<u8>>,
    pub requests: Arc<AtomicU64>,
    pub bytes: Arc<AtomicU64>,
}

struct Counted(Vec<u8>, Arc<AtomicU64>, Arc<AtomicU64>);

impl Blob for Counted {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> npk::error::Result<()> {
        self.1.fetch_add(1, Relaxed);
        self.2.fetch_add(buf.len() as u64, Relaxed);
        buf.copy_from_slice(&self.0[offset as usize..offset as usize + buf.len()]);
        Ok(())
    }
    fn read_ranges(&self, ranges: &[std::ops::Range<u64>]) -> npk::error::Result<Vec<Vec<u8>>> {
        self.1.fetch_add(1, Relaxed);
        Ok(ranges
            .iter()
            .map(|r| {
                self.2.fetch_add(r.end - r.start, Relaxed);
                self.0[r.start as usize..r.end as usize].to_vec()
            })
            .collect())
    }
}

impl Objects {
    pub fn load(root: &Path) -> Objects {
        Objects { all: support::files_below(root), ..Objects::default() }
    }
    fn get(&self, key: &str) -> npk::error::Result<&Vec<u8>> {
        self.requests.fetch_add(1, Relaxed);
        self.all.get(key).ok_or_else(|| Error::missing("no such object"))
    }
}

impl Backend for Objects {
    fn kind(&self, key: &str) -> npk::error::Result<EntryKind> {
        let dir = format!("{}/", key.trim_end_matches('/'));
        Ok(match self.all.get(key) {
            Some(bytes) => EntryKind::File { len: bytes.len() as u64, modified: None },
            None if self.all.keys().any(|k| k.starts_with(&dir)) => EntryKind::Dir,
            None => EntryKind::Missing,
        })
    }
    fn list(&self, key: &str) -> npk::error::Result<Vec<Entry>> {
        let dir = format!("{}/", key.trim_end_matches('/'));
        let mut found = BTreeMap::new();
        for rest in self.all.keys().filter_map(|k| k.strip_prefix(&dir)) {
            let (name, is_dir) = rest.split_once('/').map_or((rest, false), |(d, _)| (d, true));
            found.insert(name.to_string(), Entry { name: name.into(), is_dir, len: 0 });
        }
        Ok(found.into_values().collect())
    }
    fn walk(&self, _key: &str) -> npk::error::Result<Vec<(String, u64)>> {
        unreachable!()
    }
    fn blob(&self, key: &str) -> npk::error::Result<Arc<dyn Blob>> {
        Ok(Arc::new(Counted(self.get(key)?.clone(), self.requests.clone(), self.bytes.clone())))
    }
    fn stream(&self, key: &str) -> npk::error::Result<Box<dyn std::io::Read + Send>> {
        let bytes = self.get(key)?.clone();
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }
    fn create_file(
        &self,
        _: &str,
        _: Existing,
    ) -> npk::error::Result<Box<dyn npk::storage::Output>> {
        unreachable!()
    }
    fn create_dir(
        &self,
        _: &str,
        _: Existing,
        _: &[&str],
    ) -> npk::error::Result<Box<dyn npk::storage::OutputDir>> {
        unreachable!()
    }
    fn remove(&self, _: &str) -> npk::error::Result<()> {
        unreachable!()
    }
    fn display(&self, key: &str) -> String {
        format!("memory://{key}")
    }
}

/// Object storage: the same values, and of shards only the inner chunks that the rows need, in few
/// requests.
#[test]
#[ignore = "asks the real libraries"]
fn remote_and_partial() {
    let scratch = Scratch::new();
    let want = by_python(
        &scratch,
        r#"
g = zarr.open_group('r/s.zarr', mode='w', zarr_format=3)
out['sh'] = arr((1000, 40), 'f8'); g.create_array('sh', data=out['sh'], chunks=(10, 40), shards=(1000, 40), compressors=None)
out['narrow'] = arr((200, 40), 'i4'); g.create_array('g/narrow', data=out['narrow'], chunks=(10, 10), shards=(100, 20))
out['g/narrow'] = out.pop('narrow')
out['plain'] = arr((100, 3), 'i2'); g.create_array('plain', data=out['plain'], chunks=(30, 3))
"#,
    );
    let objects = Objects::load(&scratch.join("r"));
    let (requests, bytes) = (objects.requests.clone(), objects.bytes.clone());
    let at = Location::remote(Arc::new(objects), "s.zarr");
    let source = Zarr.open(&at, &ReadOptions::default()).unwrap();
    let plan = source.plan().clone();
    let all: Vec<usize> = (0..plan.arrays.len()).collect();
    let reader = source.select(&all, Order::ArrayByArray).unwrap().random().unwrap();
    for (i, meta) in plan.arrays.iter().enumerate() {
        let mut all = Vec::new();
        let rows = meta.rows.unwrap();
        let middle = rows / 2 + 3;
        for range in [0..middle, middle..rows] {
            reader
                .read(i, range, &mut |c| {
                    if let Values::Fixed(b) = &c.values {
                        all.extend_from_slice(b);
                    }
                    Ok(())
                })
                .unwrap();
        }
        assert!(all == want[&meta.name].2, "{}", meta.name);
    }
    let sh = plan.position("sh").unwrap();
    assert_eq!(reader.next_boundary(sh, 13), 20);
    let fresh = Zarr.open(&at, &ReadOptions::default()).unwrap();
    let fresh = crate::support::library::rows_of(fresh.as_ref(), sh);
    requests.store(0, Relaxed);
    bytes.store(0, Relaxed);
    let mut got = Vec::new();
    fresh
        .read(sh, 515..525, &mut |c| {
            if let Values::Fixed(b) = &c.values {
                got.extend_from_slice(b);
            }
            Ok(())
        })
        .unwrap();
    assert!(got == want["sh"].2[515 * 320..525 * 320]);
    // The index (100 × 16 + 4) and two inner chunks of 10 × 40 × 8 bytes.
    assert_eq!(bytes.load(Relaxed), 1604 + 2 * 3200);
    assert!(requests.load(Relaxed) <= 3, "{}", requests.load(Relaxed));
}

/// Links that lead back to a group above, and a FIFO in the place of a chunk.
#[test]
#[ignore = "asks the real libraries"]
fn links_in_circles_and_fifos() {
    let out = Scratch::new();
    let group = r#"{"zarr_format": 3, "node_type": "group", "attributes": {}}"#;
    support::python(
        out.path(),
        "import zarr\nzarr.create_array('a.zarr', shape=(4,), chunks=(2,), dtype='i2')[:] = [1, 2, 3, 4]\n",
    );
    let at = out.join("t.zarr");
    std::fs::create_dir_all(at.join("g")).unwrap();
    std::fs::write(at.join("zarr.json"), group).unwrap();
    std::fs::write(at.join("g/zarr.json"), group).unwrap();
    std::fs::rename(out.join("a.zarr"), at.join("g/a")).unwrap();
    for link in ["g/one", "g/two"] {
        std::os::unix::fs::symlink(&at, at.join(link)).unwrap();
    }
    let path = at.display().to_string();
    let output = support::npk_any(&["inspect", &path]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.matches("is a link to a group that it is in").count() == 2,
        "{said}"
    );
    assert_eq!(support::npk(&["list", &path]), "g/a\n");
    // Another name for a group that is not above is one.
    std::os::unix::fs::symlink("g", at.join("h")).unwrap();
    assert_eq!(support::npk(&["list", &path]), "g/a\nh/a\n");
    std::fs::remove_file(at.join("g/a/c/1")).unwrap();
    assert!(
        std::process::Command::new("mkfifo").arg(at.join("g/a/c/1")).status().unwrap().success()
    );
    let said = support::npk_fails(4, &["convert", &path, &out.join("o.npk").display().to_string()]);
    assert!(said.contains("c/1") && said.contains("a FIFO"), "{said}");
}

/// How many errors there are before anything is written.
fn refusals(plan: &Plan) -> usize {
    let (at, options) = (Location::local("z.zarr"), WriteOptions::default());
    Zarr.prepare(&at, plan, &options).err().map_or(0, |e| 1 + e.others().len())
}
