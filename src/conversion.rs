//! `npk convert`: what goes where, then file after file through the pipe.

#[cfg(test)]
mod changed_outputs;
mod convert;
mod gather;
mod outcome;
mod output;
mod parts;
mod quantized;
mod reconcile;
pub(crate) mod record;
mod refer;
mod settings;
mod together;
mod units;
mod verification;

pub(crate) use output::fitted;
pub use settings::Hooks;
pub use units::run;
