//! Object storage and HTTP, against servers on this machine.

mod batches;
pub mod commands;
mod credentials;
mod hub;
pub mod hub_server;
mod judges;
mod library;
mod listing;
mod load;
mod reading;
pub mod server;
mod uploads;
