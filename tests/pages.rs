//! Pages in a browser: they are whole there, ask nobody for anything, and everybody can use them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Scratch, at, npk, npk_any, python, python_path};

/// Where `make judges` puts axe-core; `None`, with a note, where this or the browser is not there.
fn axe() -> Option<PathBuf> {
    if std::env::var_os("NPK_TEST_NO_CHROMIUM").is_some() {
        eprintln!("left out: there is no Chromium, or no axe-core");
        return None;
    }
    let environment = Path::new(&python_path()).ancestors().nth(2)?.to_path_buf();
    Some(environment.join("axe/node_modules/axe-core/axe.min.js"))
}

/// What Chromium says of a page, and the document that it has made of it.
fn browse(page: &Path, width: u32) -> (Vec<String>, String) {
    let home = Scratch::new();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .args(["--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", home.path().display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("chromium");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_string).collect();
    (said, String::from_utf8(output.stdout).unwrap())
}

/// A copy of the page in which everything is open, and axe-core has looked at it.
fn judged(page: &Path, axe: &Path, width: u32) -> Value {
    const ASK: &str = r#"
document.querySelectorAll("details").forEach((details) => (details.open = true));
setTimeout(() => axe.run(document, { resultTypes: ["violations"] }).then((found) => {
  document.getElementById("judged").textContent = JSON.stringify({
    violations: found.violations.map((v) => [v.impact, v.id, v.nodes.slice(0, 3).map((n) => n.html)]),
    passes: found.passes.length,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
    canvases: document.querySelectorAll("canvas").length,
    scrolls: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  });
}), 50);"#;
    let text = std::fs::read_to_string(page).unwrap();
    // The page lets no script run but its own.
    let policy = text.find("<meta http-equiv=\"Content-Security-Policy\"").unwrap();
    let end = policy + text[policy..].find('>').unwrap() + 1;
    let library = std::fs::read_to_string(axe).unwrap().replace("</script>", "<\\/script>");
    let probe = format!(
        "{}{}<pre id=\"judged\" hidden></pre><script>{library}</script><script>{ASK}</script>",
        &text[..policy],
        &text[end..],
    );
    let copy = page.with_extension("probe.html");
    std::fs::write(&copy, probe).unwrap();
    let (said, document) = browse(&copy, width);
    assert!(said.is_empty(), "{said:?}");
    let found = document.split("<pre id=\"judged\" hidden=\"\">").nth(1).expect("no judgement");
    let found = found.split("</pre>").next().unwrap();
    let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&found).unwrap()
}

#[test]
#[ignore = "asks the real libraries"]
fn a_browser_and_axe_find_nothing_wrong_with_pages() {
    let Some(axe) = axe() else { return };
    let s = Scratch::new();
    python(
        s.path(),
        r#"
import numpy as np, h5py
r = np.random.default_rng(3)
x = r.standard_normal((1000, 800)).astype("f4")
x[500:] = 0
x[3, 5], x[900, 7] = np.nan, np.inf
for name, more in (("a", {}), ("b", {"y": x[:100] * 2})):
    with h5py.File(name + ".h5", "w") as f:
        f.create_dataset("x", data=x, chunks=(100, 90), compression="gzip")
        f.create_dataset("deep/one", data=np.arange(10000), chunks=(100,), compression="gzip")
        f["t"] = ["some", "text", "text"]
        f["x"].attrs["units"] = "m"
        for key, value in more.items():
            f[key] = value
np.savez("many.npz", **{f"layers.{i}.w": r.standard_normal((4, 4)) for i in range(450)})
"#,
    );
    let (a, b, many) = (at(&s, "a.h5"), at(&s, "b.h5"), at(&s, "many.npz"));
    let page = |name: &str| s.join(name).to_str().unwrap().to_string();
    npk(&["inspect", &a, "--html", &page("one.html"), "--checksum"]);
    npk(&["inspect", &a, &b, "--html", &page("two.html")]);
    npk(&["inspect", &many, "--html", &page("many.html")]);
    let compared = npk_any(&["diff", &a, &b, "--summary", "--html", &page("diff.html")]);
    assert_eq!(compared.status.code(), Some(1));
    for name in ["one.html", "two.html", "many.html", "diff.html"] {
        let path = s.join(name);
        assert!(std::fs::metadata(&path).unwrap().len() <= 2_000_000, "{name}");
        let (said, document) = browse(&path, 1200);
        assert!(said.is_empty() && document.contains("</main>"), "{name}: {said:?}");
        for width in [390, 1200] {
            let found = judged(&path, &axe, width);
            assert_eq!(found["violations"], serde_json::json!([]), "{name} at {width}");
            assert_eq!(found["requests"], serde_json::json!([]), "{name}");
            assert_eq!(found["scrolls"], false, "{name} at {width}");
            assert!(found["passes"].as_u64() > Some(10), "{name}: {found}");
            if name != "diff.html" {
                assert!(found["canvases"].as_u64() > Some(1), "{name}: {found}");
            }
        }
    }
}
