//! Times a model file on the processor: `cargo bench -p vision --bench networks -- FILE [runs=5] [threads=2] [SIDE=NUMBER]...`
//!
//! With `cache=1` the optimised graph is kept in the system's folder for temporary files, and read from there later.
//!
//! Sides are those that the file names: `images=8`, `texts=64 tokens=77`, `height=800 width=1067`, `boxes=300`. Prints the
//! median and the least of the runs and the processor time of one, in milliseconds. benches/peers/networks.py is PyTorch's side.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use onnx::runtime::{Input, Options, Session};
use onnx::{Dim, Dtype, Elements, TensorData};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let Some(file) = words.first() else {
        println!("networks: no model file named, nothing timed");
        return Ok(());
    };
    let mut sides = HashMap::new();
    for word in &words[1..] {
        let (name, number) = word.split_once('=').ok_or("SIDE=NUMBER")?;
        sides.insert(name.to_owned(), number.parse::<usize>()?);
    }
    let runs = sides.remove("runs").unwrap_or(5);
    let threads = sides.remove("threads");
    let cache = sides.remove("cache").map(|_| std::env::temp_dir().join("xenc-optimised"));
    let started = Instant::now();
    let mut session =
        Session::open(Path::new(file), &Options { threads, cache, ..Options::default() })?;
    let opened = started.elapsed();
    let inputs = session
        .inputs()
        .iter()
        .map(|(name, dtype, shape)| Ok((name.clone(), input(name, *dtype, &shape.0, &sides)?)))
        .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    let inputs: Vec<_> =
        inputs.iter().map(|(name, tensor)| (name.as_str(), Input::Host(tensor))).collect();
    session.run(&inputs)?;
    let mut times = Vec::new();
    let before = processor_ms();
    for _ in 0..runs {
        let started = Instant::now();
        session.run(&inputs)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let processor = (processor_ms() - before) / runs as f64;
    println!(
        "{file}: median {:.1} ms, least {:.1} ms, processor {processor:.0} ms, opened in {:.1} s",
        times[runs / 2],
        times[0],
        opened.as_secs_f64()
    );
    Ok(())
}

fn input(
    name: &str,
    dtype: Dtype,
    dims: &[Dim],
    sides: &HashMap<String, usize>,
) -> Result<TensorData, Box<dyn std::error::Error>> {
    let side = |dim: &Dim| match dim {
        Dim::Fixed(side) => Ok(*side),
        Dim::Named(name) => sides.get(&**name).copied().ok_or(format!("say {name}=NUMBER")),
        Dim::Any => Err("a side without a name".to_owned()),
    };
    let shape = dims.iter().map(side).collect::<Result<Vec<_>, _>>()?;
    let count: usize = shape.iter().product();
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let elements: Elements = match (dtype, name) {
        (Dtype::I64, _) => {
            (0..count).map(|_| (next() * 40_000.0) as i64).collect::<Vec<_>>().into()
        }
        (_, "boxes") => (0..count / 4)
            .flat_map(|_| {
                let (x, y) = (next() * 700.0, next() * 500.0);
                [x, y, x + 10.0 + next() * 300.0, y + 10.0 + next() * 250.0]
            })
            .collect::<Vec<f32>>()
            .into(),
        _ => (0..count).map(|_| next() * 2.0 - 1.0).collect::<Vec<f32>>().into(),
    };
    Ok(TensorData::new(shape, elements)?)
}

/// Milliseconds of processor time that this process has used, which other programs do not lengthen; 0 where there is no
/// `/proc`.
fn processor_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the name in brackets; user and system time in hundredths of a second.
    let after = stat.rsplit(')').next().unwrap_or_default();
    after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        * 10.0
}
