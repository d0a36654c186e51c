//! Zarr v2 and v3, both directions against zarr-python, numcodecs, xarray and tensorstore; refusals; damage.

use std::collections::BTreeMap;
use std::path::Path;

use npk::error::{Error, Kind};
use npk::format::{Compression, Format, Order, ReadOptions, WriteOptions};
use npk::formats::zarr::Zarr;
use npk::location::Location;
use npk::model::{ArrayMeta, Chunk, Plan, Values};
use npk::pipe;

use crate::support::{self, Scratch};

/// Everything of a hierarchy: per array its type, shape and bytes (text: items joined by `|`).
type Contents = BTreeMap<String, (String, Vec<u64>, Vec<u8>)>;

fn read_with(path: &Path, options: &ReadOptions, jobs: usize) -> Result<(Plan, Contents), Error> {
    let source = Zarr.open(&Location::local(path), options)?;
    let plan = source.plan().clone();
    let mut contents: Contents =
        plan.arrays.iter().map(|a| (a.name.clone(), (a.type_name(), a.shape().unwrap_or_default(), Vec::new()))).collect();
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
        }
        Ok(())
    };
    pipe::drain(source, Vec::new(), Order::ArrayByArray, &mut take, &pipe::Settings::new(jobs, options.memory_bytes))?;
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
        assert!(b == bytes, "{name}: the values differ: {:?} … {:?} …", &b[..b.len().min(64)], &bytes[..bytes.len().min(64)]);
    }
}

/// Every type, both versions, with nested groups, consolidated and not.
#[test]
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
        assert_eq!(read_with(&scratch.join("s.zarr"), &options, 1).unwrap_err().kind(), Kind::Missing);
    }
}

/// Every codec and filter that is read.
#[test]
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

/// Copies a store through the pipe into another.
fn copy(from: &Path, to: &Path, options: &WriteOptions, memory_bytes: u64) -> Result<(), Error> {
    let source = Zarr.open(&Location::local(from), &ReadOptions { memory_bytes, ..ReadOptions::default() })?;
    let errors = Zarr.refuse(source.plan(), options);
    Error::all(errors)?;
    let mut create = |plan: &Plan| Zarr.create(&Location::local(to), plan, options);
    pipe::run(source, Vec::new(), Zarr.holds().unwrap(), &mut create, &pipe::Settings::new(2, memory_bytes)).map(|_| ())
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
fn written_for_zarr_python() {
    let scratch = Scratch::new();
    let want = by_python(&scratch, MIXED);
    let variants: Vec<(&str, WriteOptions)> = vec![
        ("3.zarr", WriteOptions::default()),
        ("2.zarr", WriteOptions { zarr_format: Some(2), ..WriteOptions::default() }),
        ("blosc3.zarr", WriteOptions { compression: packed("blosc", None), ..WriteOptions::default() }),
        ("blosc2.zarr", WriteOptions { compression: packed("blosc", Some(9)), zarr_format: Some(2), ..WriteOptions::default() }),
        ("gzip3.zarr", WriteOptions { compression: packed("gzip", Some(1)), ..WriteOptions::default() }),
        ("gzip2.zarr", WriteOptions { compression: packed("gzip", None), zarr_format: Some(2), ..WriteOptions::default() }),
        ("none3.zarr", WriteOptions { compression: packed("none", None), ..WriteOptions::default() }),
        ("shape.zarr", WriteOptions { chunk_shape: Some(vec![11, 2]), shard_shape: Some(vec![22, 4]), ..WriteOptions::default() }),
        ("shard1.zarr", WriteOptions { shard_shape: Some(vec![4]), chunk_shape: Some(vec![2]), ..WriteOptions::default() }),
        ("shard3.zarr", WriteOptions { shard_shape: Some(vec![8, 20, 8]), ..WriteOptions::default() }),
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
        assert_eq!(c3.details.attributes["_ARRAY_DIMENSIONS"], serde_json::json!(["t", "x", null]), "{name}");
        if !name.starts_with("sh") {
            assert_eq!(c3.details.chunks, Some(vec![7, 50, 5]), "{name}: the source's chunks are kept");
        }
        let store = if name.ends_with("zip") { format!("zarr.storage.ZipStore('{name}', mode='r')") } else { format!("'{name}'") };
        code += &format!(
            "out = {{}}\nSTORE = {store}\n{READ_BACK}\nassert g.attrs['title'] == 'root' and g['deep'].attrs['note'] == 'a group'\n"
        );
        code += "assert g['deep/er/c3'].attrs['units'] == 'm'\n";
        code += &format!("with open('{name}.bin','wb') as f:\n    for k,v in out.items(): dump(f,k,v)\n");
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
