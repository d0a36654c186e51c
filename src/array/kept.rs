//! Decoded pieces of which only a part was wanted, for the next that asks. They stay in memory as
//! far as there is room. Where arrays are read side by side whose pieces do not fit into it together
//! (columns of a table, the parts of a nested column), each piece would be decoded anew for every
//! few rows: those of an array that this befell go to a temporary file, and are decoded once.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use super::recent::{Recent, SharedRecent, Slot};
use crate::error::{Error, Result, locked};
use crate::storage::temporary;

/// Rows of pieces that an array has on the disk: several threads may be in neighbouring ones.
const ROWS_OF_PIECES: u64 = 4;

/// What can be kept on the disk, too.
pub(super) trait Piece: Clone {
    /// Its bytes, in two parts; nothing where there are none.
    fn parts(&self) -> Option<[&[u8]; 2]>;
}

/// A piece that was asked for.
#[derive(Clone)]
pub(super) enum Held<V> {
    Memory(V),
    Disk(Arc<OnDisk>),
}

/// The pieces of these arrays.
pub(super) struct Kept<V> {
    state: Mutex<State<V>>,
    store: Arc<Store>,
}

struct State<V> {
    /// By the array's pieces and their number.
    recent: Recent<(usize, u64), Slot<V>>,
    /// Of each array the piece that had to go last.
    gone: HashMap<usize, u64>,
    /// The arrays whose pieces go to the disk.
    torn: HashMap<usize, Arc<SharedRecent<u64, Held<V>>>>,
}

impl<V: Piece> Kept<V> {
    /// Room for pieces of this size together.
    pub(super) fn new(most: u64) -> Kept<V> {
        let (recent, gone, torn) = (Recent::new(most), HashMap::new(), HashMap::new());
        Kept { state: Mutex::new(State { recent, gone, torn }), store: Arc::default() }
    }

    /// The piece of this number of an array (known by where its pieces are), which `make` makes
    /// where there is none; `size` is what it takes, `across` how many lie side by side.
    ///
    /// # Errors
    /// Those of `make`; the next that asks tries again.
    pub(super) fn get_or(
        &self,
        (array, number): (usize, u64),
        (size, across): (u64, u64),
        make: impl FnOnce() -> Result<V>,
    ) -> Result<Held<V>> {
        let slot = {
            let mut state = locked(&self.state);
            if let Some(torn) = state.torn(array, number, across) {
                drop(state);
                return self.on_disk(&torn, number, make);
            }
            let slot = state.recent.get(&(array, number)).unwrap_or_default();
            for (of, number) in state.recent.insert((array, number), slot.clone(), size) {
                state.gone.insert(of, number);
            }
            slot
        };
        let mut value = locked(&slot);
        if let Some(value) = &*value {
            return Ok(Held::Memory(value.clone()));
        }
        let made = make()?;
        *value = Some(made.clone());
        Ok(Held::Memory(made))
    }

    fn on_disk(
        &self,
        torn: &SharedRecent<u64, Held<V>>,
        number: u64,
        make: impl FnOnce() -> Result<V>,
    ) -> Result<Held<V>> {
        let mut left = None;
        let held = torn.get_or(number, 1, || {
            let made = make()?;
            match made.parts().map(|parts| self.store.write(parts)) {
                None => Ok(Held::Memory(made)),
                Some(Ok(held)) => Ok(Held::Disk(Arc::new(held))),
                Some(Err(e)) => {
                    left = Some(made);
                    Err(e)
                }
            }
        });
        // Without room on the disk it is decoded again.
        left.map_or(held, |made| Ok(Held::Memory(made)))
    }

    /// Says what a piece in memory really takes.
    pub(super) fn resize(&self, key: &(usize, u64), size: u64) {
        let mut state = locked(&self.state);
        for (of, number) in state.recent.resize(key, size) {
            state.gone.insert(of, number);
        }
    }
}

impl<V: Piece> State<V> {
    /// The pieces on the disk of an array that has some: one that had to go before all of its rows
    /// were read is asked for again.
    fn torn(
        &mut self,
        array: usize,
        number: u64,
        across: u64,
    ) -> Option<Arc<SharedRecent<u64, Held<V>>>> {
        if let Some(torn) = self.torn.get(&array) {
            return Some(torn.clone());
        }
        let again =
            self.gone.get(&array) == Some(&number) && self.recent.get(&(array, number)).is_none();
        again.then(|| {
            let torn = SharedRecent::new(across.saturating_mul(ROWS_OF_PIECES));
            self.torn.entry(array).or_insert(Arc::new(torn)).clone()
        })
    }
}

/// A temporary file with room for pieces that come and go.
#[derive(Default)]
struct Store(Mutex<Room>);

#[derive(Default)]
struct Room {
    file: Option<Arc<File>>,
    end: u64,
    /// Where pieces were that are gone: first byte and length.
    free: Vec<(u64, u64)>,
}

impl Room {
    fn take(&mut self, len: u64) -> Result<(Arc<File>, u64)> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.file.insert(Arc::new(temporary::file()?)).clone(),
        };
        if let Some(i) = self.free.iter().position(|&(_, free)| free >= len) {
            let (at, free) = self.free.swap_remove(i);
            if free > len {
                self.free.push((at + len, free - len));
            }
            return Ok((file, at));
        }
        let at = self.end;
        self.end += len;
        Ok((file, at))
    }

    fn give_back(&mut self, (mut at, mut len): (u64, u64)) {
        // Together with what is free before and behind it.
        self.free.retain(|&(other, free)| {
            let (before, behind) = (other + free == at, at + len == other);
            if before {
                at = other;
            }
            if before || behind {
                len += free;
            }
            !before && !behind
        });
        match at + len == self.end {
            true => self.end = at,
            false => self.free.push((at, len)),
        }
    }
}

impl Store {
    fn write(self: &Arc<Store>, parts: [&[u8]; 2]) -> Result<OnDisk> {
        let lens = parts.map(|part| part.len() as u64);
        let (file, at) = locked(&self.0).take(lens[0] + lens[1])?;
        let piece = OnDisk { store: self.clone(), file, at, lens };
        let (first, second) = (at, at + lens[0]);
        for (part, at) in parts.into_iter().zip([first, second]) {
            piece.file.write_all_at(part, at).map_err(temporary::error)?;
        }
        Ok(piece)
    }
}

/// A piece on the disk.
pub(super) struct OnDisk {
    store: Arc<Store>,
    file: Arc<File>,
    at: u64,
    lens: [u64; 2],
}

impl OnDisk {
    /// Some bytes of a part.
    ///
    /// # Errors
    /// Failed where they cannot be read.
    pub(super) fn read(&self, part: usize, first: u64, len: u64) -> Result<Vec<u8>> {
        let at = self.at + first + if part == 0 { 0 } else { self.lens[0] };
        let mut bytes = vec![0; len as usize];
        let failed = |e| Error::failed("the temporary file cannot be read").because(e);
        self.file.read_exact_at(&mut bytes, at).map_err(failed)?;
        Ok(bytes)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        locked(&self.store.0).give_back((self.at, self.lens[0] + self.lens[1]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    impl Piece for Vec<u8> {
        fn parts(&self) -> Option<[&[u8]; 2]> {
            Some(self.split_at(self.len() / 3).into())
        }
    }

    fn bytes(held: &Held<Vec<u8>>) -> Vec<u8> {
        match held {
            Held::Memory(bytes) => bytes.clone(),
            Held::Disk(disk) => [0, 1].map(|p| disk.read(p, 0, disk.lens[p]).unwrap()).concat(),
        }
    }

    /// Ten arrays side by side, room for pieces of four of them.
    #[test]
    fn pieces_side_by_side_are_made_once() {
        let kept = Kept::new(400);
        let made = Cell::new(0);
        let (pieces, rows) = (20u64, 10);
        for row in 0..pieces * rows {
            for array in 0..10usize {
                let number = row / rows;
                let piece = vec![(array as u64 * pieces + number) as u8; 100];
                let make = || {
                    made.set(made.get() + 1);
                    Ok(piece.clone())
                };
                let held = kept.get_or((array, number), (100, 1), make).unwrap();
                assert_eq!(bytes(&held), piece, "array {array}, row {row}");
            }
        }
        assert!(made.get() <= 10 * (pieces + 2), "{} pieces were made", made.get());
        // What is read is given back.
        assert!(locked(&kept.store.0).end <= 10 * 100 * (ROWS_OF_PIECES + 1));
    }

    #[test]
    fn room_is_used_again() {
        let mut room = Room::default();
        let at: Vec<u64> = [10, 20, 30, 40].map(|len| room.take(len).unwrap().1).to_vec();
        assert_eq!(at, [0, 10, 30, 60]);
        room.give_back((10, 20));
        room.give_back((30, 30));
        assert_eq!(room.take(50).unwrap().1, 10);
        room.give_back((60, 40));
        room.give_back((10, 50));
        assert_eq!((room.end, room.free.len()), (10, 0));
    }
}
