//! Keys that the client library has no name for.

use std::borrow::Cow;

use bytes::Bytes;
use object_store::path::Path;

/// Leaves out of a page what the client library has no name for, as `a//b`: one such key would make
/// it drop the page.
pub(super) fn without_odd_keys(page: Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(&page) else { return page };
    let mut text = Cow::Borrowed(text);
    for (entry, name) in [
        ("Contents", "Key"),
        ("CommonPrefixes", "Prefix"),
        ("Blob", "Name"),
        ("BlobPrefix", "Name"),
    ] {
        let (open, close, name) =
            (format!("<{entry}>"), format!("</{entry}>"), format!("<{name}>"));
        let (mut kept, mut rest) = (String::new(), &*text);
        while let Some(from) = rest.find(&open)
            && let Some(len) = rest[from..].find(&close)
        {
            let end = from + len + close.len();
            let key = rest[from..end]
                .split_once(&name)
                .and_then(|(_, r)| r.split_once("</"))
                .map_or("", |(key, _)| key);
            let key = unescaped(key);
            let odd = key.starts_with('/') || Path::parse(&key).is_err();
            kept.push_str(&rest[..if odd { from } else { end }]);
            rest = &rest[end..];
        }
        kept.push_str(rest);
        if kept.len() < text.len() {
            text = kept.into();
        }
    }
    match text {
        Cow::Borrowed(_) => page,
        Cow::Owned(text) => text.into(),
    }
}

/// The characters that XML writes as numbers (`&#x9;`), among them those that no name of the client
/// library may hold.
fn unescaped(text: &str) -> Cow<'_, str> {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("&#") {
        let number = behind.split_once(';').and_then(|(number, behind)| {
            let value = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            Some((char::from_u32(value.ok()?)?, behind))
        });
        let Some((character, behind)) = number else { break };
        plain.push_str(before);
        plain.push(character);
        rest = behind;
    }
    if plain.is_empty() { text.into() } else { (plain + rest).into() }
}
