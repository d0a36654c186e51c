//! Object storage and HTTP, against servers on this machine.

mod batches;
mod commands;
mod credentials;
mod hub;
mod hub_server;
mod judges;
mod library;
mod load;
mod reading;
pub mod server;
mod uploads;
