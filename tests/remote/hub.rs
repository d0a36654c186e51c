//! `hf://`, against a hub on this machine.

use std::collections::HashMap;
use std::process::Output;

use super::commands::{npy, safetensors, said};
use super::hub_server::{Access, Asked, Hub, TOKEN};
use crate::support::{Scratch, npk_command};

fn run(hub: &Hub, change: &[(&str, Option<&str>)], args: &[&str]) -> Output {
    let mut environment: HashMap<String, String> = hub.environment();
    for (name, value) in change {
        match value {
            Some(value) => environment.insert(name.to_string(), value.to_string()),
            None => environment.remove(*name),
        };
    }
    npk_command().args(args).envs(environment).output().unwrap()
}

#[track_caller]
fn works(hub: &Hub, args: &[&str]) -> String {
    let output = run(hub, &[], args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(hub: &Hub, code: i32, change: &[(&str, Option<&str>)], args: &[&str]) -> String {
    let text = said(code, run(hub, change, args));
    assert!(!text.contains(TOKEN), "{text}");
    text
}

fn elsewhere(asked: &[Asked]) -> impl Iterator<Item = &Asked> {
    asked.iter().filter(|a| a.elsewhere)
}

/// An index, its two parts, and what else a repository has. `shift`: other values.
fn sharded(shift: u8) -> Vec<(&'static str, Vec<u8>)> {
    let part = |name: &str| {
        let header = format!(
            "{{\"{name}\":{{\"dtype\":\"U8\",\"shape\":[5000],\"data_offsets\":[0,5000]}}}}"
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend((0..5000u32).map(|i| (i as u8).wrapping_add(shift)));
        bytes
    };
    let index = r#"{"metadata": {"total_size": 10000}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    vec![
        ("model.safetensors.index.json", index.into()),
        ("model-00001-of-00002.safetensors", part("a")),
        ("model-00002-of-00002.safetensors", part("b")),
        ("README.md", b"# A model".to_vec()),
    ]
}

#[test]
fn one_tensor_is_read_by_its_ranges_and_the_token_stays_at_the_hub() {
    let (hub, scratch) = (Hub::new(), Scratch::new());
    let file = safetensors(40, 50_000);
    hub.put("models/o/n", &[("deep/m.safetensors", file.clone()), ("small.npy", npy(5))]);
    hub.access("models/o/n", Access::Private);
    let out = scratch.join("x.npy");
    works(
        &hub,
        &["convert", "hf://o/n/deep/m.safetensors", "-a", "layer.30.weight", out.to_str().unwrap()],
    );
    let wanted: Vec<u8> =
        (30 * 50_000..31 * 50_000).flat_map(|i| (i as f32).to_le_bytes()).collect();
    assert!(std::fs::read(&out).unwrap().ends_with(&wanted));
    let asked = hub.asked();
    let fetched: usize = elsewhere(&asked).map(|a| a.bytes).sum();
    assert!(fetched < 500_000 && file.len() > 8_000_000, "{fetched}");
    assert!(elsewhere(&asked).count() > 0 && elsewhere(&asked).all(|a| !a.has_token()));
    let at_hub: Vec<&Asked> = asked.iter().filter(|a| !a.elsewhere).collect();
    assert!(at_hub.len() == 1 && at_hub[0].has_token(), "{at_hub:?}");
    // A small file comes with the first answer.
    works(&hub, &["inspect", "hf://o/n@main/small.npy", "--stats"]);
    assert_eq!(hub.asked().len(), 1);
}

#[test]
fn all_files_of_a_run_are_of_one_commit() {
    let (hub, scratch) = (Hub::new(), Scratch::new());
    let first = hub.put("models/o/n", &sharded(0));
    // Another state appears while the first part is read.
    hub.when_read(|state| {
        let files = sharded(1).into_iter().map(|(name, bytes)| (name.to_string(), bytes));
        state.commit("models/o/n", "main", files.collect());
    });
    let out = scratch.join("x.npz");
    let index = "hf://o/n/model.safetensors.index.json";
    works(&hub, &["convert", index, out.to_str().unwrap()]);
    let old = scratch.join("old");
    std::fs::create_dir(&old).unwrap();
    for (name, bytes) in sharded(0) {
        std::fs::write(old.join(name), bytes).unwrap();
    }
    let old = old.join("model.safetensors.index.json");
    works(&hub, &["diff", old.to_str().unwrap(), out.to_str().unwrap()]);
    let resolved: Vec<Asked> =
        hub.asked().into_iter().filter(|a| a.uri.contains("/resolve/")).collect();
    assert!(resolved.iter().skip(1).all(|a| a.uri.contains(&first)), "{resolved:?}");
    // The next run is of the new one; the old one has a name.
    let code = |revision: &str| {
        let index = format!("hf://o/n{revision}/model.safetensors.index.json");
        run(&hub, &[], &["diff", old.to_str().unwrap(), &index]).status.code()
    };
    assert_eq!((code(""), code(&format!("@{first}"))), (Some(1), Some(0)));
    hub.state.commit(
        "models/o/n",
        "refs/pr/1",
        sharded(0).into_iter().map(|(n, b)| (n.into(), b)).collect(),
    );
    assert_eq!((code("@refs/pr/1"), code("@refs%2Fpr%2F1")), (Some(0), Some(0)));
}

#[test]
fn folders_and_globs_are_listed_page_by_page() {
    let (hub, scratch) = (Hub::new(), Scratch::new());
    let mut files: Vec<(String, Vec<u8>)> =
        (0..7).map(|i| (format!("in/{i}.npy"), npy(10 + i))).collect();
    files.push(("in/deep/x.npy".into(), npy(3)));
    files.push(("in/notes.md".into(), b"notes".to_vec()));
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    hub.put("datasets/o/d", &files);
    let out = |name: &str| format!("{}/", scratch.join(name).display());
    let names = |name: &str| std::fs::read_dir(scratch.join(name)).unwrap().count();
    works(&hub, &["convert", "hf://datasets/o/d/in/*.npy", &out("glob"), "--to", "safetensors"]);
    assert_eq!(names("glob"), 7);
    let asked = hub.asked();
    let pages = asked.iter().filter(|a| a.uri.contains("/tree/"));
    assert!(pages.clone().count() >= 4 && pages.clone().all(Asked::has_token), "{asked:?}");
    works(&hub, &["convert", "hf://datasets/o/d/**/*.npy", &out("all"), "--to", "safetensors"]);
    assert_eq!((names("all"), names("all/in"), names("all/in/deep")), (1, 8, 1));
    let none = ["convert", "hf://datasets/o/d/*.npy", &out("none"), "--to", "npk"];
    let said = fails(&hub, 3, &[], &none);
    assert!(said.contains("nothing matches"), "{said}");
}

#[test]
fn indexes_and_stores_are_read_whole() {
    let (hub, scratch) = (Hub::new(), Scratch::new());
    hub.put("models/o/n", &sharded(0));
    let listed = works(&hub, &["list", "hf://o/n/model.safetensors.index.json"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["a", "b"]);
    let store = scratch.join("s.npk");
    works(&hub, &["convert", "hf://o/n/model.safetensors.index.json", store.to_str().unwrap()]);
    let files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                format!("s.npk/{}", path.file_name().unwrap().display()),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    hub.put("models/o/s", &files);
    works(&hub, &["diff", store.to_str().unwrap(), "hf://o/s/s.npk"]);
}

#[test]
fn headers_are_kept_by_their_checksum() {
    let hub = Hub::new();
    hub.put("models/o/n", &[("m.safetensors", safetensors(2000, 10))]);
    hub.put("models/o/copy", &[("c.safetensors", safetensors(2000, 10))]);
    let inspect = |change: &[(&str, Option<&str>)], url: &str| {
        let output = run(&hub, change, &["inspect", url]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let asked = hub.asked();
        (asked.len() - elsewhere(&asked).count(), elsewhere(&asked).count(), output.stdout)
    };
    let (at_hub, fetched, text) = inspect(&[], "hf://o/n/m.safetensors");
    assert!(at_hub == 1 && fetched > 0);
    // The hub says which version it is; its bytes are here, whatever they are called.
    assert_eq!(inspect(&[], "hf://o/n/m.safetensors"), (1, 0, text.clone()));
    assert_eq!(inspect(&[], "hf://o/copy/c.safetensors").1, 0);
    for off in ["off", "0"] {
        let off = [("NPK_HEADER_CACHE", Some(off))];
        assert_eq!(inspect(&off, "hf://o/n/m.safetensors"), (1, fetched, text.clone()));
    }
    let folder = hub.home.join("cache/npk/headers");
    let entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    for path in &entries {
        let mut bytes = std::fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(inspect(&[], "hf://o/n/m.safetensors"), (1, fetched, text.clone()));
    assert_eq!(inspect(&[], "hf://o/n/m.safetensors"), (1, 0, text));
    // Several at once.
    std::fs::remove_dir_all(&folder).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| works(&hub, &["inspect", "hf://o/n/m.safetensors"]));
        }
    });
    let left = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(left, entries.len(), "temporaries are left");
}

#[test]
fn signed_addresses_end_and_repositories_move() {
    let (hub, scratch) = (Hub::new(), Scratch::new());
    hub.put("models/new/n", &[("m.safetensors", safetensors(40, 50_000))]);
    hub.rename("models/old/n", "new/n");
    hub.when_read(|state| state.end_addresses());
    let out = scratch.join("m.npz");
    works(&hub, &["convert", "hf://old/n/m.safetensors", out.to_str().unwrap()]);
    let moved: Vec<Asked> = hub.asked();
    assert!(moved.iter().any(|a| !a.elsewhere && a.uri.starts_with("/new/n/resolve")));
    let local = scratch.join("m.safetensors");
    std::fs::write(&local, safetensors(40, 50_000)).unwrap();
    works(&hub, &["diff", local.to_str().unwrap(), out.to_str().unwrap()]);
}

#[test]
fn tokens_are_found_where_a_login_leaves_them() {
    let hub = Hub::new();
    hub.put("models/o/n", &[("x.npy", npy(5))]);
    hub.access("models/o/n", Access::Private);
    let url = "hf://o/n/x.npy";
    let opens =
        |change: &[(&str, Option<&str>)]| run(&hub, change, &["inspect", url]).status.success();
    let file = hub.home.join("mine");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let none = ("HF_TOKEN", None);
    assert!(!opens(&[none]));
    assert!(opens(&[none, ("HUGGING_FACE_HUB_TOKEN", Some(TOKEN))]));
    assert!(opens(&[none, ("HF_TOKEN_PATH", file.to_str())]));
    for place in ["home", "cache/huggingface", ".cache/huggingface"] {
        std::fs::create_dir_all(hub.home.join(place)).unwrap();
    }
    std::fs::copy(&file, hub.home.join("home/token")).unwrap();
    assert!(opens(&[none, ("HF_HOME", Some("~/home"))]));
    assert!(!opens(&[none]));
    std::fs::copy(&file, hub.home.join(".cache/huggingface/token")).unwrap();
    assert!(opens(&[none, ("XDG_CACHE_HOME", None)]));
    std::fs::copy(&file, hub.home.join("cache/huggingface/token")).unwrap();
    assert!(opens(&[none]));
    assert!(!opens(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", Some("1"))]));
    let unsigned = run(&hub, &[], &["inspect", url, "--no-sign-request"]);
    assert!(!unsigned.status.success());
}

#[test]
fn a_hub_says_what_is_wrong() {
    let hub = Hub::new();
    hub.put("models/o/n", &[("x.npy", npy(5))]);
    hub.put("models/o/gated", &[("x.npy", npy(5))]);
    hub.access("models/o/gated", Access::Gated);
    let inspect = |url: &str, code: i32, change: &[(&str, Option<&str>)], words: &[&str]| {
        let said = fails(&hub, code, change, &["inspect", url]);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    let unsigned = [("HF_TOKEN", None)];
    inspect("hf://o/n/none.npy", 3, &[], &["hf://o/n/none.npy"]);
    inspect("hf://o/n@v9/x.npy", 6, &[], &["o/n has no revision v9", "branch"]);
    inspect("hf://o/other/x.npy", 6, &[], &["no repository o/other that this token"]);
    inspect("hf://o/other/x.npy", 6, &unsigned, &["or it is private", "HF_TOKEN"]);
    inspect("hf://o/gated/x.npy", 6, &[], &["/o/gated", "ask at", "HF_TOKEN"]);
    inspect("hf://o/n/x.npy", 6, &[("HF_TOKEN", Some("hf_other"))], &["does not accept the token"]);
    inspect("hf://o/n/x.npy", 6, &[("HF_TOKEN", Some("two words"))], &["does not hold a token"]);
    inspect("hf://o/n/x.npy", 6, &[("HF_HUB_OFFLINE", Some("1"))], &["HF_HUB_OFFLINE"]);
    inspect(
        "hf://o/n/x.npy",
        6,
        &[("HF_ENDPOINT", Some("http://127.0.0.1:1"))],
        &["no connection"],
    );
    inspect("hf://o/n/x.npy", 2, &[("HF_ENDPOINT", Some("nowhere"))], &["HF_ENDPOINT"]);
    inspect("hf://model.npy", 2, &[], &["hf://OWNER/NAME"]);
    let said = fails(&hub, 2, &[], &["convert", "hf://o/n/x.npy", "hf://o/n/y.npy"]);
    assert!(said.contains("hf upload"), "{said}");
    hub.asked();
    hub.be_busy(1);
    works(&hub, &["inspect", "hf://o/n/x.npy"]);
    assert_eq!(hub.asked().len(), 2);
    hub.be_busy(usize::MAX);
    let said = fails(&hub, 6, &[], &["inspect", "hf://o/n/x.npy", "--retries", "1"]);
    assert!(said.contains("slow down"), "{said}");
}

#[test]
fn references_name_the_commit() {
    let (hub, scratch) = (Hub::new(), Scratch::new());
    let commit = hub.put("models/o/n", &[("m.safetensors", safetensors(2, 500))]);
    let out = scratch.join("m.json");
    works(&hub, &["convert", "hf://o/n/m.safetensors", out.to_str().unwrap(), "--to", "kerchunk"]);
    let text = std::fs::read_to_string(out).unwrap();
    assert!(text.contains(&format!("hf://o/n@{commit}/m.safetensors")), "{text}");
}

/// The library of the Hugging Face Hub lists and downloads from the hub of these tests what npk
/// reads from it, and takes its refusals for what they are: so the hub speaks as the real one does.
#[test]
#[ignore = "asks the real libraries"]
fn the_librarys_downloads_are_what_is_read() {
    let (hub, scratch) = (Hub::new(), Scratch::new());
    hub.is_no_mirror();
    let old = hub.put("models/o/n", &sharded(0));
    hub.put("models/o/n", &sharded(1));
    let arrays = [("in/a.npy", npy(3)), ("in/deep/b.npy", npy(2000)), ("c.npy", npy(5))];
    hub.put("datasets/o/d", &arrays);
    hub.put("models/o/private", &sharded(0));
    hub.access("models/o/private", Access::Private);
    hub.put("models/o/gated", &sharded(0));
    hub.access("models/o/gated", Access::Gated);
    let code = r#"
import json, os, shutil, sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
old = sys.argv[1]
api = HfApi()
names = {t: sorted(api.list_repo_files(r, repo_type=t)) for r, t in (("o/n", "model"), ("o/d", "dataset"))}
sizes = {f.path: f.size for f in api.list_repo_tree("o/n", recursive=True)}
for revision in ("main", old):
    for name in names["model"]:
        path = hf_hub_download("o/n", name, revision=revision)
        assert os.path.getsize(path) == sizes[name]
        os.makedirs(f"model/{revision}", exist_ok=True)
        shutil.copy(path, f"model/{revision}/{name}")
shutil.copytree(snapshot_download("o/d", repo_type="dataset"), "dataset")
def refusal(*args, **more):
    try:
        hf_hub_download(*args, **more)
    except Exception as e:
        return type(e)
assert refusal("o/n", "gone") is not None and issubclass(refusal("o/n", "gone"), EntryNotFoundError)
assert issubclass(refusal("o/n", "README.md", revision="gone"), RevisionNotFoundError)
assert issubclass(refusal("o/gone", "README.md"), RepositoryNotFoundError)
assert issubclass(refusal("o/private", "README.md", token=False), RepositoryNotFoundError)
assert issubclass(refusal("o/gated", "README.md"), GatedRepoError)
hf_hub_download("o/private", "README.md")
print(json.dumps(names))
"#;
    let library = std::process::Command::new(crate::support::python_path())
        .args(["-W", "ignore", "-c", code, &old])
        .current_dir(scratch.path())
        .envs(hub.environment())
        .envs(["TELEMETRY", "XET", "PROGRESS_BARS"].map(|n| (format!("HF_HUB_DISABLE_{n}"), "1")))
        .output()
        .unwrap();
    assert!(library.status.success(), "{}", String::from_utf8_lossy(&library.stderr));
    let names: serde_json::Value = serde_json::from_slice(&library.stdout).unwrap();
    let files = sharded(0);
    let mut due: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    due.sort_unstable();
    assert_eq!(names["model"], serde_json::json!(due));
    assert_eq!(names["dataset"], serde_json::json!(["c.npy", "in/a.npy", "in/deep/b.npy"]));
    for name in ["model-00001-of-00002.safetensors", "model.safetensors.index.json"] {
        for revision in ["main", &old] {
            let path = scratch.join(&format!("model/{revision}/{name}"));
            works(&hub, &["diff", path.to_str().unwrap(), &format!("hf://o/n@{revision}/{name}")]);
        }
    }
    let out = format!("{}/", scratch.join("out").display());
    works(&hub, &["convert", "hf://datasets/o/d/**/*.npy", &out, "--to", "npy"]);
    for (name, bytes) in &arrays {
        let read = |folder: &str| std::fs::read(scratch.join(&format!("{folder}/{name}"))).unwrap();
        assert_eq!(&read("dataset"), bytes, "{name}");
        let (a, b) = (format!("out/{name}"), format!("dataset/{name}"));
        let [a, b] = [a, b].map(|path| scratch.join(&path).display().to_string());
        works(&hub, &["diff", &a, &b]);
    }
}
