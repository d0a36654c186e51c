//! The source of a file.

use std::sync::Arc;

use super::rows::Rows;
use crate::array::source::MapSource;
use crate::error::{Error, Result};
use crate::format::{Order, Reader, Source, StoredArray};
use crate::model::Plan;

/// The source of a file.
pub(super) struct Hdf5Source {
    pub(super) maps: MapSource,
    pub(super) rows: Arc<Rows>,
}

impl Source for Hdf5Source {
    fn plan(&self) -> &Plan {
        self.maps.plan()
    }

    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        // Fields of one record are only taken from it together if nothing else is done with them.
        let is_special = arrays.iter().any(|&a| self.rows.arrays[a].is_special());
        let wish = if is_special { Order::ArrayByArray } else { wish };
        Ok(match self.maps.select(arrays, wish)? {
            Reader::Random(_) => Reader::Random(self.rows.clone()),
            together => together,
        })
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        match self.rows.arrays[array].is_special() {
            true => Err(Error::refused("its values are not the stored ones")),
            false => self.maps.stored(array),
        }
    }
}
