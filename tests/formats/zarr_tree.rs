//! The tree of a Zarr hierarchy: what the default way of opening shows is what is there.

use std::path::Path;

use npk::format::ReadOptions;
use npk::formats::by_name;
use npk::storage::Location;

use crate::support::{Scratch, at, npk, python};

/// The arrays' names in the plan's order.
fn names(path: &Path) -> Vec<String> {
    let format = npk::detect::input(&Location::local(path)).unwrap().format.spec().name;
    let source =
        by_name(format).unwrap().open(&Location::local(path), &ReadOptions::default()).unwrap();
    source.plan().arrays.iter().map(|a| a.name.clone()).collect()
}

/// Members of a group need not follow each other in the source: zarr-python and xarray see all of
/// them, and the order of the arrays comes back.
#[test]
#[ignore = "asks the real libraries"]
fn siblings_anywhere_are_seen() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import json, numpy as np, random
r = random.Random(5)
trees = {
    'siblings': ['g1/x', 'g2/y', 'g1/z'],
    'deep': ['a/b/c/x', 'd', 'a/b/y', 'e/f/z', 'a/w', 'a/b/c/v', 'e/f/u', 'd2', 'a/b/c/t', 'e/s'],
    'plain': ['x', 'y', 'g/x', 'g/y'],
    'prefixes': ['g/x', 'g1/x', 'g-/x', 'g/y', 'g1/y', 'g-/y', 'g/g/x', 'g/g1/x', 'g/g/y'],
}
for i in range(4):
    names = list({'/'.join(r.choice('abc') + ('_' if k else '') for k in range(r.randint(1, 4), 0, -1)) + r.choice('xyz') for _ in range(60)})
    names = [n for n in names if not any(m.startswith(n + '/') or n.startswith(m + '/') for m in names)]
    r.shuffle(names); trees[f'random{i}'] = names
for name, names in trees.items():
    np.savez(name + '.npz', **{n: np.full((2, i + 1), i) for i, n in enumerate(names)})
json.dump(trees, open('trees.json', 'w'))
",
    );
    let trees: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(s.join("trees.json")).unwrap()).unwrap();
    for tree in trees.keys() {
        let source = at(&s, &format!("{tree}.npz"));
        for (version, ending) in [("2", "zarr"), ("3", "zarr"), ("3", "zarr.zip")] {
            let out = format!("{tree}{version}.{ending}");
            npk(&["convert", "-q", &source, &at(&s, &out), "--zarr-format", version]);
            assert_eq!(names(&s.join(&out)), names(&s.join(&format!("{tree}.npz"))), "{out}");
            npk(&["convert", "-q", "-f", &at(&s, &out), &at(&s, "back.npk")]);
            assert_eq!(names(&s.join("back.npk")), names(&s.join(&format!("{tree}.npz"))), "{out}");
            npk(&["diff", &source, &at(&s, "back.npk")]);
        }
    }
    python(
        s.path(),
        "
import json, warnings, numpy as np, zarr, xarray as xr
warnings.simplefilter('ignore')
def check(g, want, path=''):
    for name in {n.split('/')[0] for n in want}:
        inside = {n[len(name) + 1:]: v for n, v in want.items() if n.startswith(name + '/')}
        if inside: check(g[name], inside, f'{path}/{name}')
        else: assert (g[name][:] == want[name]).all(), name
    assert sorted(g) == sorted({n.split('/')[0] for n in want}), (path, sorted(g))
for tree in json.load(open('trees.json')):
    want = dict(np.load(tree + '.npz'))
    for store in [f'{tree}2.zarr', f'{tree}3.zarr', f'{tree}3.zarr.zip']:
        g = zarr.open_group(zarr.storage.ZipStore(store, mode='r') if store.endswith('.zip') else store, mode='r')
        assert g.metadata.consolidated_metadata is not None
        check(g, want)
        assert sorted(p for p, m in g.members(max_depth=None) if isinstance(m, zarr.Array)) == sorted(want), store
        if not store.endswith('.zip'):
            dt = xr.open_datatree(store, engine='zarr')
            got = {(p + '/' + n).strip('/'): v.values for p, d in dt.to_dict().items() for n, v in d.variables.items()}
            assert sorted(got) == sorted(want) and all((got[n] == want[n]).all() for n in want), store
            assert not any(k for d in dt.subtree for k in d.attrs), store
g = xr.open_zarr('deep3.zarr')
assert sorted(g.variables) == ['d', 'd2'], g
",
    );
}

/// Attributes of groups with and without arrays are where they belong, and the recorded order is no
/// attribute of the source.
#[test]
#[ignore = "asks the real libraries"]
fn attributes_of_groups_stay() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import h5py, numpy as np
with h5py.File('a.h5', 'w', track_order=True) as f:
    f.attrs['title'] = 'root'
    for path in ['g1/x', 'g2/y', 'g1/k/z', 'g2/w']:
        f.create_group(path.rsplit('/', 1)[0]) if path.rsplit('/', 1)[0] not in f else None
        f[path] = np.arange(3)
    f['g1'].attrs['n'] = 1; f['g1/k'].attrs['n'] = 2; f.create_group('empty/inner').attrs['n'] = 3
",
    );
    for version in ["2", "3"] {
        let out = at(&s, &format!("o{version}.zarr"));
        npk(&["convert", "-q", &at(&s, "a.h5"), &out, "--zarr-format", version]);
        npk(&["convert", "-q", "-f", &out, &at(&s, "back.h5")]);
        python(
            s.path(),
            &format!(
                "
import zarr, h5py
g = zarr.open_group('o{version}.zarr', mode='r')
assert g.attrs['title'] == 'root' and g['g1'].attrs['n'] == 1 and g['g1/k'].attrs['n'] == 2 and g['empty/inner'].attrs['n'] == 3
assert sorted(g['g1']) == ['k', 'x'] and sorted(g['empty']) == ['inner'] and sorted(g['g2']) == ['w', 'y']
f = h5py.File('back.h5')
assert not [k for k in f.attrs if k.startswith('_nc')] and f.attrs['title'] == 'root' and f['g1/k'].attrs['n'] == 2
"
            ),
        );
    }
}

/// Arrays that were added, resized, removed or described anew after the metadata was consolidated
/// are read as they are.
#[test]
#[ignore = "asks the real libraries"]
fn consolidated_metadata_may_be_old() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import json, os, shutil, zarr, numpy as np, warnings
warnings.simplefilter('ignore')
for v in (2, 3):
    path = f'v{v}.zarr'
    g = zarr.open_group(path, mode='w', zarr_format=v)
    for name in ('z', 'grown', 'gone', 'g/told', 'bare'):
        g.create_array(name, data=np.arange(4), chunks=(2,))
    zarr.consolidate_metadata(path)
    shutil.copytree(path, f'whole{v}.zarr')
    g = zarr.open_group(path, mode='r+', use_consolidated=False)
    g['grown'].resize((6,)); g['grown'][4:] = 9
    del g['gone']
    g.create_array('g/added', data=np.arange(3.))
    g['g/told'].attrs['unit'] = 'm'
    for doc in ('zarr.json', '.zarray', '.zattrs'):
        if os.path.exists(f'{path}/bare/{doc}'): os.remove(f'{path}/bare/{doc}')
    shutil.make_archive(f'v{v}', 'zip', path); shutil.move(f'v{v}.zip', f'v{v}.zarr.zip')
    # What others believe.
    assert zarr.open_group(path, mode='r')['grown'].shape == (4,)
",
    );
    for v in [2, 3] {
        let format = by_name("zarr").unwrap();
        let open = |name: &str| {
            format.open(&Location::local(s.join(name)), &ReadOptions::default()).unwrap()
        };
        let whole = open(&format!("whole{v}.zarr"));
        assert_eq!(whole.plan().notes, Vec::<String>::new());
        for name in [format!("v{v}.zarr"), format!("v{v}.zarr.zip")] {
            let source = open(&name);
            let plan = source.plan();
            let shape = |array: &str| {
                plan.arrays[plan.position(array).unwrap_or_else(|| panic!("{name}: {array}"))]
                    .shape()
                    .unwrap()
            };
            let names: Vec<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
            let kept: Vec<&str> = whole
                .plan()
                .arrays
                .iter()
                .map(|a| a.name.as_str())
                .filter(|n| *n != "gone")
                .collect();
            assert_eq!(names[..4], kept, "{name}");
            assert_eq!(names[4..], ["g/added"], "{name}");
            assert_eq!((shape("grown"), shape("bare")), (vec![6], vec![4]), "{name}");
            assert_eq!(
                plan.arrays[plan.position("g/told").unwrap()].details.attributes["unit"],
                "m"
            );
            let notes = plan.notes.join("\n");
            assert!(
                notes.contains("older than 4 of the nodes")
                    && notes.contains("their own metadata was read"),
                "{name}: {notes}"
            );
            assert!(notes.contains("bare has no metadata of its own"), "{name}: {notes}");
        }
        let out = at(&s, "o.npk");
        npk(&["convert", "-f", &at(&s, &format!("v{v}.zarr")), &out, "-a", "grown"]);
        assert_eq!(npk(&["list", "-l", &out]), "grown\tint64\t6\t48\n");
    }
}
