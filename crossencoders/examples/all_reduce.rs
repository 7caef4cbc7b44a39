//! How fast ranks add up gradients: `mpirun -n 2 target/release/examples/all_reduce [MILLION_PARAMETERS]`.
//!
//! Prints the time of one sum over all ranks of so many f32 gradients, in buckets as training does it and in messages of
//! other sizes, and the bandwidth: bytes of gradients per second.

use std::process::ExitCode;
use std::time::Instant;

use crossencoders::tch::{Device, Kind, Tensor};
use crossencoders::train::distributed::{BUCKET_BYTES, ConnectError, Gradients, Ranks, connect};

/// Times that everything is measured; the fastest counts.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let million = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100);
    match measure(million) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(million: i64) -> Result<(), ConnectError> {
    let ranks = connect(Device::Cpu)?;
    if ranks.is_root() {
        println!("{} ranks, {million} million parameters", ranks.size());
        println!("{:<24} {:>10} {:>10}", "bytes at once", "ms", "GB/s");
    }
    for bytes in [4, 1 << 10, 1 << 16, 1 << 20, BUCKET_BYTES] {
        let mut values = vec![1.0; bytes / 4];
        let seconds = fastest(&ranks, || ranks.sum(&mut values))?;
        report(&ranks, &bytes.to_string(), bytes, seconds);
    }
    // Layers of a transformer are matrices of about a million values.
    let parameters: Vec<(usize, Tensor)> = (0..million)
        .map(|_| Tensor::ones([1000, 1000], (Kind::Float, Device::Cpu)))
        .map(|parameter| (0, parameter.set_requires_grad(true)))
        .collect();
    for (_, parameter) in &parameters {
        parameter.sum(Kind::Float).backward();
    }
    let bytes = 4_000_000 * million as usize;
    let mut gradients = Gradients::new(parameters);
    let seconds = fastest(&ranks, || gradients.sum(&ranks))?;
    report(&ranks, "all gradients, bucketed", bytes, seconds);
    Ok(())
}

fn fastest<E>(ranks: &Ranks, mut work: impl FnMut() -> Result<(), E>) -> Result<f64, ConnectError>
where
    ConnectError: From<E>,
{
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        ranks.barrier()?;
        let started = Instant::now();
        work()?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn report(ranks: &Ranks, what: &str, bytes: usize, seconds: f64) {
    if ranks.is_root() {
        println!("{what:<24} {:>10.3} {:>10.3}", 1e3 * seconds, bytes as f64 / 1e9 / seconds);
    }
}
