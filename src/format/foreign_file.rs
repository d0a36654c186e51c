//! Files that are not what their name says: Git LFS pointers, web pages, answers of storage
//! services.

use crate::error::Error;

/// The error for bytes that begin like a Git LFS pointer, an HTML page or an XML document; `None`
/// for all others.
pub fn named(head: &[u8]) -> Option<Error> {
    if head.starts_with(b"version https://git-lfs") {
        let text = String::from_utf8_lossy(&head[..head.len().min(512)]);
        let size = text.lines().find_map(|l| l.strip_prefix("size "));
        let of = size.map_or_else(String::new, |size| format!(" to a file of {size} bytes"));
        let error = Error::missing(format!("this is a Git LFS pointer{of}, not the file itself"));
        return Some(error.hint("fetch the file with `git lfs pull`"));
    }
    let text = head.trim_ascii_start();
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).trim_ascii_start();
    let begins =
        |tag: &[u8]| text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag);
    if begins(b"<!doctype html") || begins(b"<html") {
        let error = Error::missing("this is an HTML page, not the file itself");
        return Some(error.hint(
            "the download led to a web page: check the URL and the login, and fetch the file again",
        ));
    }
    if begins(b"<?xml") {
        let error = Error::missing("this is an XML document, not data");
        return Some(
            error.hint("it may be an error message of the storage service: open it and see"),
        );
    }
    None
}
