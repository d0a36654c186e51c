//! Many inputs become units of work: which sources make which outputs, what is there already,
//! whether the disk has room, which share of several machines a unit belongs to. Knows names and
//! places, not what is in the files.

pub(crate) mod context;
pub(crate) mod existing;
pub(crate) mod flight;
pub(crate) mod found;
pub(crate) mod inputs;
pub(crate) mod lists;
pub(crate) mod marks;
pub(crate) mod merged;
pub(crate) mod merkle;
pub(crate) mod outputs;
pub(crate) mod report;
pub(crate) mod shares;
pub(crate) mod space;
pub(crate) mod survey;

pub(crate) use outputs::{Conversion, Conversions, conversions};
