//! The `npk` command.

fn main() {}
