//! Ranks that are threads of one process. They share processor and random numbers, so this is no way to train faster; it
//! is how code for several ranks is tried out without an MPI library.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use super::{CommError, Communicator};

/// One of [`local`]'s ranks.
#[derive(Debug)]
pub struct Local {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    barrier: Barrier,
    /// What each rank brings to the operation that is under way.
    floats: Vec<Mutex<Vec<f32>>>,
    bytes: Mutex<Vec<u8>>,
}

/// So many ranks; each belongs to a thread of its own.
pub fn local(size: usize) -> Vec<Local> {
    let shared = Arc::new(Shared {
        barrier: Barrier::new(size),
        floats: (0..size).map(|_| Mutex::default()).collect(),
        bytes: Mutex::default(),
    });
    (0..size).map(|rank| Local { rank, shared: Arc::clone(&shared) }).collect()
}

impl Communicator for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.floats.len()
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommError> {
        let slot =
            |rank: usize| self.shared.floats[rank].lock().unwrap_or_else(PoisonError::into_inner);
        *slot(self.rank) = values.to_vec();
        self.barrier()?;
        let length = values.len();
        let fits = (0..self.size()).all(|rank| slot(rank).len() == length);
        if fits {
            values.fill(0.0);
            // In the order of the ranks, so that all get the same bits.
            for rank in 0..self.size() {
                values.iter_mut().zip(slot(rank).iter()).for_each(|(sum, value)| *sum += value);
            }
        }
        // Nobody may bring new values before all have read these.
        self.barrier()?;
        match fits {
            true => Ok(()),
            false => Err(CommError::Library {
                library: "the exchange between threads",
                reason: format!(
                    "ranks reduce buffers of different sizes, rank {} {length}",
                    self.rank
                ),
            }),
        }
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<(), CommError> {
        let shared = || self.shared.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rank == 0 {
            *shared() = bytes.to_vec();
        }
        self.barrier()?;
        let fits = shared().len() == bytes.len();
        if fits {
            bytes.copy_from_slice(&shared());
        }
        self.barrier()?;
        match fits {
            true => Ok(()),
            false => Err(CommError::Library {
                library: "the exchange between threads",
                reason: "ranks broadcast buffers of different sizes".into(),
            }),
        }
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.shared.barrier.wait();
        Ok(())
    }
}
