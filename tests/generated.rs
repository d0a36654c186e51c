//! Completions, man pages and README's format table are those of this command line.

use std::path::Path;

use crate::support::{Scratch, npk};

#[test]
fn generated_files_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let s = Scratch::new();
    std::fs::copy(root.join("README.md"), s.join("README.md")).unwrap();
    npk(&["generate".as_ref(), s.path().as_os_str()]);
    let mut compared = 0;
    for folder in ["completions", "man"] {
        let list = |dir: &Path| -> Vec<String> {
            let mut names: Vec<String> = std::fs::read_dir(dir)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(list(&root.join(folder)), list(&s.join(folder)), "run `make generated`");
        for name in list(&s.join(folder)) {
            let (old, new) = (root.join(folder).join(&name), s.join(folder).join(&name));
            assert!(
                std::fs::read(old).unwrap() == std::fs::read(new).unwrap(),
                "{folder}/{name} is stale: run `make generated`"
            );
            compared += 1;
        }
    }
    assert!(compared >= 10, "only {compared} files");
    assert!(
        std::fs::read(root.join("README.md")).unwrap()
            == std::fs::read(s.join("README.md")).unwrap(),
        "README's format table is stale: run `make generated`"
    );
}
