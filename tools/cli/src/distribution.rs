//! What `xenc train` does otherwise when it is one of several processes.

use std::process::ExitCode;

use crossencoders::train::distributed::{CommError, Launch, Ranks};
use crossencoders::train::{Outcome, Summary, TrainError, Trainer};

use crate::interrupt;

/// `cuda` is the GPU with the process's number on its machine; other names mean what they say.
pub fn own_device(name: &str, launch: Option<Launch>) -> String {
    match launch {
        Some(Launch { local_rank, size }) if name == "cuda" && size > 1 => {
            format!("cuda:{local_rank}")
        }
        _ => name.to_owned(),
    }
}

/// Trains as one of the ranks that say nothing.
pub fn follow(trainer: &mut Trainer) -> anyhow::Result<Option<Summary>> {
    interrupt::be_quiet();
    match trainer.run(interrupt::flag(), &mut |_| ())? {
        Outcome::Finished(summary) => Ok(Some(summary)),
        Outcome::Interrupted { .. } => Ok(None),
    }
}

/// How a rank ends with an error: of all that have one, the first says it.
pub fn fail(error: anyhow::Error, ranks: &Ranks) -> anyhow::Result<ExitCode> {
    let is_lost = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(TrainError::Comm(CommError::Library { .. })))
    };
    if ranks.size() > 1 && error.chain().any(is_lost) {
        errln!("error: rank {}: {error:#}", ranks.rank());
        // The others cannot be told. Leaving without a farewell makes the launcher end them; one would wait for them.
        std::process::exit(2);
    }
    match (ranks.speaks(), ranks.size()) {
        (true, 1) => Err(error),
        (true, size) => Err(error.context(format!("rank {} of {size}", ranks.rank()))),
        (false, _) => Ok(ExitCode::from(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_of_a_machine_takes_a_gpu_of_its_own() {
        let third = Some(Launch { size: 16, local_rank: 2 });
        assert_eq!(own_device("cuda", third), "cuda:2");
        assert_eq!(own_device("cuda:5", third), "cuda:5");
        assert_eq!(own_device("cpu", third), "cpu");
        assert_eq!(own_device("cuda", None), "cuda");
    }
}
