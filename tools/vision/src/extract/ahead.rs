//! Pictures are prepared on other threads while the network runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Prepares the items of `todo` on `workers` threads and hands them to `take` in the order in which they are ready.
/// At most two per worker wait at any time. Ends early when `stop` is set. Returns how long `take` had to wait.
pub(super) fn ahead<T: Send, E>(
    todo: &[usize],
    workers: usize,
    stop: &AtomicBool,
    prepare: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<Duration, E> {
    let next = AtomicUsize::new(0);
    let workers = workers.clamp(1, todo.len().max(1));
    let mut waited = Duration::ZERO;
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(workers);
        for _ in 0..workers {
            let (sender, next, prepare) = (sender.clone(), &next, &prepare);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(&item) = todo.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    // Nobody listens any more after an error.
                    if sender.send((item, prepare(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        loop {
            let start = Instant::now();
            let Ok((item, prepared)) = receiver.recv() else { break };
            waited += start.elapsed();
            if stop.load(Ordering::Relaxed) {
                break;
            }
            take(item, prepared)?;
        }
        Ok(waited)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_and_an_error_ends_it() {
        let todo: Vec<usize> = (5..205).collect();
        let stop = AtomicBool::new(false);
        let mut seen = Vec::new();
        let done = ahead(
            &todo,
            4,
            &stop,
            |item| item * 2,
            |item, doubled| {
                assert_eq!(doubled, item * 2);
                seen.push(item);
                Ok::<(), ()>(())
            },
        );
        assert!(done.is_ok());
        seen.sort_unstable();
        assert_eq!(seen, todo);
        let mut left = 10;
        let failed = ahead(
            &todo,
            4,
            &stop,
            |item| item,
            |_, _| {
                left -= 1;
                if left == 0 { Err("enough") } else { Ok(()) }
            },
        );
        assert_eq!(failed, Err("enough"));
        stop.store(true, Ordering::Relaxed);
        let stopped = ahead(&todo, 2, &stop, |item| item, |_, _| Err("never"));
        assert!(stopped.is_ok());
    }
}
