//! Object storage and HTTP, against servers on this machine.

mod library;
mod server;
