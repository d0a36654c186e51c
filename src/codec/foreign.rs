//! Files that are not what their name says: Git LFS pointers, HTML pages.

use crate::error::Error;

/// The error for bytes that begin like a Git LFS pointer or an HTML page; `None` for all others.
pub fn named(head: &[u8]) -> Option<Error> {
    if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Some(Error::missing("this is a Git LFS pointer, not the file itself").hint("fetch the file with `git lfs pull`"));
    }
    let text = head.trim_ascii_start();
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let begins = |tag: &[u8]| text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag);
    if begins(b"<!doctype html") || begins(b"<html") {
        return Some(
            Error::missing("this is an HTML page, not the file itself").hint("download the file again: the server sent a web page"),
        );
    }
    None
}
