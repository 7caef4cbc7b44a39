//! Peak memory and time of a training step's forward and backward pass, with all activations or with recomputed ones:
//! `cargo run --release --example step_memory -- configs/models/vilbert_base.json plain|recomputing SETS`.

use std::error::Error;
use std::time::Instant;

use crossencoders::config::ModelConfig;
use crossencoders::model::{Activations, Candidates, RankingHead, RankingModel, Text};
use crossencoders::tch::nn::VarStore;
use crossencoders::tch::{Device, Kind, Tensor};
use crossencoders::train::contrastive;

/// Word pieces, candidates and regions with the global one, as in ImageCoDe.
const SIZE: (i64, i64, i64) = (32, 10, 37);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, mode, sets] = &arguments[..] else {
        return Err("give a configuration, plain or recomputing, and the number of sets".into());
    };
    let (config, sets) = (ModelConfig::load(config.as_ref())?, sets.parse::<i64>()?);
    let variables = VarStore::new(Device::Cpu);
    let model = RankingModel::new(&variables.root(), &config, &RankingHead::Linear)?;
    let (tokens, candidates, regions) = SIZE;
    let input_ids = Tensor::randint(config.vocab_size, [sets, tokens], (Kind::Int64, Device::Cpu));
    let text =
        Text { token_type_ids: input_ids.zeros_like(), mask: input_ids.ones_like(), input_ids };
    let float = (Kind::Float, Device::Cpu);
    let candidates = Candidates {
        features: Tensor::rand([sets, candidates, regions, config.v_feature_size], float),
        locations: Tensor::rand([sets, candidates, regions, config.num_locs], float),
        mask: Tensor::ones([sets, candidates, regions], (Kind::Int64, Device::Cpu)),
    };
    let video = Tensor::zeros([sets], (Kind::Bool, Device::Cpu));
    let targets = Tensor::zeros([sets], (Kind::Int64, Device::Cpu));
    let loss = |scores: &Tensor| contrastive(scores, &targets);
    println!("model and batch: {}", peak()?);
    let started = Instant::now();
    if mode == "recomputing" {
        let _ = model.backward_in_segments(
            (&text, &candidates, &video),
            Some(0),
            Activations::Recomputed,
            &loss,
            &mut |_| (),
        );
    } else {
        loss(&model.forward_seeded(&text, &candidates, &video, Some(0))).backward();
    }
    println!("{mode}, {sets} sets: {}, {:.1} s", peak()?, started.elapsed().as_secs_f64());
    Ok(())
}

/// The most memory this process has had at once, as Linux tells it.
fn peak() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(format!("{} peak", line.trim()))
}
