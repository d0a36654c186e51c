//! Object storage and HTTP, against servers on this machine.

mod batches;
mod commands;
mod credentials;
mod judges;
mod library;
mod load;
mod reading;
pub mod server;
mod uploads;
