//! The source of a file.

use std::sync::Arc;

use super::rows::Rows;
use crate::array::source::MapSource;
use crate::error::{Error, Result};
use crate::format::{Extent, Job, Order, ReadRows, Source, StoredArray};
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

    fn select(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        // Fields of one record are only taken from it together if nothing else is done with them.
        let is_special = arrays.iter().any(|&a| self.rows.arrays[a].is_special());
        self.maps.select(arrays, if is_special { Order::ArrayByArray } else { wish })?;
        Ok(wish)
    }

    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        self.maps.next(max_bytes)
    }

    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        self.maps.random().map(|_| self.rows.clone() as Arc<dyn ReadRows>)
    }

    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        if self.rows.arrays[array].is_special() { None } else { self.maps.extents(array) }
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        match self.rows.arrays[array].is_special() {
            true => Err(Error::refused("its values are not the stored ones")),
            false => self.maps.stored(array),
        }
    }
}
