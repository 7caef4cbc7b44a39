//! Pre-training losses on the reference's own scores.

use crossencoders::config::ModelConfig;
use crossencoders::model::pretraining::{Classes, PretrainingModel, RegionTargets, Targets};
use crossencoders::weights;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::models::inputs;
use crate::{assert_near, fixtures, tensors};

/// VOLTA's losses, over all positions, of the scores in `outputs.safetensors`; ours, over the chosen ones, of the model.
#[test]
fn parity_of_losses_with_volta_s_formulas_on_the_reference_scores() {
    let folder = fixtures().join("crossencoders/lxmert");
    let config = ModelConfig::load(&folder.join("config.json")).unwrap();
    let variables = VarStore::new(Device::Cpu);
    let model = PretrainingModel::new(&variables.root(), &config).unwrap();
    weights::load(&variables, &folder.join("weights.safetensors"), &[]).unwrap();
    let (text, vision) = inputs(&folder);
    let (images, rows, tokens) = (4, vision.features.size()[1], text.input_ids.size()[1]);

    tch::manual_seed(1);
    let whole =
        |high: i64, rows: i64| Tensor::randint(high, [images, rows], (Kind::Int64, Device::Cpu));
    let sometimes = |rows: i64| Tensor::rand([images, rows], (Kind::Float, Device::Cpu)).lt(0.3);
    let words = whole(config.vocab_size, tokens).masked_fill(&sometimes(tokens).logical_not(), -1);
    // The global feature comes first, and nothing is to be predicted of it.
    let labels = sometimes(rows).to_kind(Kind::Int64) * 2 - 1;
    let _ = labels.select(1, 0).fill_(-1);
    let probabilities =
        Tensor::rand([images, rows, 1601], (Kind::Float, Device::Cpu)).softmax(-1, Kind::Float);
    let attributes = whole(400, rows);
    let confidences = Tensor::rand([images, rows], (Kind::Float, Device::Cpu));
    let alignment = Tensor::from_slice(&[0i64, 1, 1, 0]);

    let expected = tensors(&folder.join("outputs.safetensors"));
    let chosen = labels.eq(1).to_kind(Kind::Float);
    let count = chosen.sum(Kind::Float);
    assert!(count.double_value(&[]) >= 5.0);
    let none: Option<&Tensor> = None;
    let divergence = expected["prediction_scores_v.0"].log_softmax(-1, Kind::Float).kl_div(
        &probabilities,
        tch::Reduction::None,
        false,
    );
    let divergence = (divergence * chosen.unsqueeze(-1)).sum(Kind::Float) / &count;
    let attribute = expected["prediction_scores_v.4"]
        .flatten(0, 1)
        .cross_entropy_loss(&attributes.flatten(0, 1), none, tch::Reduction::None, -1, 0.0)
        .view([images, rows]);
    let attribute = (attribute * &confidences * &chosen).sum(Kind::Float) / &count;
    let mean = tch::Reduction::Mean;
    let word = expected["prediction_scores_t"].flatten(0, 1).cross_entropy_loss(
        &words.flatten(0, 1),
        none,
        mean,
        -1,
        0.0,
    );
    let pair =
        expected["seq_relationship_score"].cross_entropy_loss(&alignment, none, mean, -1, 0.0);

    let targets = Targets {
        words,
        regions: RegionTargets {
            labels,
            features: None,
            class_probabilities: Some(probabilities),
            objects: None,
            attributes: Some(Classes { ids: attributes, confidences }),
            negatives: None,
        },
        alignment: Some(alignment),
    };
    let losses = model.losses(&text, &vision, &targets, false).unwrap();
    assert_near(&losses.words, &word, 1e-5, "words");
    assert_near(&losses.regions[0].1, &divergence, 1e-5, "target 0");
    assert_near(&losses.regions[1].1, &attribute, 1e-5, "target 4");
    assert_near(losses.alignment.as_ref().unwrap(), &pair, 1e-5, "alignment");
    // The fixture's weights are 1 and 6.667.
    let total = word + divergence + attribute * 6.667 + pair;
    assert_near(&losses.total, &total, 1e-4, "total");
}
