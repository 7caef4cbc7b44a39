//! Ranks that are processes of an MPI job.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::traits::{Communicator as _, CommunicatorCollectives, Root};

use super::{CommError, Communicator};

/// Values that go through MPI at once: MPI cannot reduce in place from Rust, and the copy of so many stays in the cache.
const CHUNK: usize = 1 << 20;

/// The processes that an MPI launcher has started; ends MPI when dropped. MPI's own errors end all processes at once,
/// with its message.
pub struct Mpi {
    rank: usize,
    size: usize,
    /// One operation at a time, from whatever thread: MPI is started as `MPI_THREAD_SERIALIZED`.
    state: Mutex<State>,
}

struct State {
    universe: Universe,
    scratch: Vec<f32>,
}

impl Mpi {
    /// Starts MPI, which is possible once in a process.
    ///
    /// # Errors
    /// If it has been started before, or does not allow for threads.
    pub fn start() -> Result<Mpi, CommError> {
        let error = |reason: &str| CommError::Library { library: "MPI", reason: reason.into() };
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| error("it has been started already"))?;
        if threading < Threading::Serialized {
            return Err(error("this MPI library was built without support for threads"));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ok(Mpi { rank, size, state: Mutex::new(State { universe, scratch: Vec::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves nothing half done that later operations would see.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommError> {
        let State { universe, scratch } = &mut *self.state();
        for chunk in values.chunks_mut(CHUNK) {
            scratch.clear();
            scratch.extend_from_slice(chunk);
            universe.world().all_reduce_into(&scratch[..], chunk, SystemOperation::sum());
        }
        Ok(())
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<(), CommError> {
        let world = self.state().universe.world();
        for chunk in bytes.chunks_mut(CHUNK) {
            world.process_at_rank(0).broadcast_into(chunk);
        }
        Ok(())
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.state().universe.world().barrier();
        Ok(())
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "Mpi {{ rank: {}, size: {} }}", self.rank, self.size)
    }
}
