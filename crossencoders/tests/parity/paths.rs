//! Ways to the same numbers that are faster than the plain one.

use crossencoders::config::ModelConfig;
use crossencoders::model::{CrossEncoder, Text, Vision};
use tch::{Kind, Tensor};

use crate::assert_near;
use crate::models::{folders, fusions, loaded};

/// Two descriptions with two images each give what four pairs give, in every architecture: what is computed once per
/// description is what each pair would compute.
#[test]
fn sets_give_what_their_pairs_give() {
    for folder in folders(false) {
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let (encoder, _variables, text, vision) = loaded(&folder, &config);
        let two = |x: &Tensor| x.narrow(0, 0, 2);
        let sets = Text {
            input_ids: two(&text.input_ids),
            token_type_ids: two(&text.token_type_ids),
            mask: two(&text.mask),
        };
        let pair = |x: &Tensor| x.repeat_interleave_self_int(2, 0, None);
        let pairs = Text {
            input_ids: pair(&sets.input_ids),
            token_type_ids: pair(&sets.token_type_ids),
            mask: pair(&sets.mask),
        };
        let by_set = encoder.forward(&sets, &vision, false, &mut |_, _, _| {});
        let by_pair = encoder.forward(&pairs, &vision, false, &mut |_, _, _| {});
        let what = folder.display().to_string();
        assert_near(&by_set.text, &by_pair.text, 1e-6, &what);
        assert_near(&by_set.vision, &by_pair.vision, 1e-6, &what);
        let fused = |encoded| encoder.fuse(encoded).unwrap();
        assert_near(&fused(&by_set), &fused(&by_pair), 1e-6, &what);
    }
}

/// Whoever needs the pooled vectors only gets the same ones, whatever is pooled.
#[test]
fn the_pooled_path_gives_what_the_whole_one_gives() {
    for folder in folders(false) {
        for fusion in fusions(&folder) {
            let mut config = ModelConfig::load(&folder.join("config.json")).unwrap();
            config.fusion_method = fusion;
            let (encoder, _variables, text, vision) = loaded(&folder, &config);
            let whole = encoder.forward(&text, &vision, false, &mut |_, _, _| {});
            let pooled = encoder.forward_pooled(&text, &vision, false);
            let what = format!("{}, {fusion:?}", folder.display());
            assert_near(
                &encoder.fuse(&pooled).unwrap(),
                &encoder.fuse(&whole).unwrap(),
                1e-5,
                &what,
            );
        }
    }
}

/// bf16 has 8 bits: what comes of all sublayers is off by a few parts in a hundred of its spread, and a stream or a mask
/// that were lost would be off by all of it.
#[test]
fn bf16_stays_near_f32() {
    let fused = |encoder: &CrossEncoder, text: &Text, vision: &Vision| -> Tensor {
        encoder.fuse(&encoder.forward_pooled(text, vision, false)).unwrap()
    };
    for folder in folders(false) {
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let (mut encoder, _variables, text, vision) = loaded(&folder, &config);
        let exact = fused(&encoder, &text, &vision);
        encoder.set_kind(Kind::BFloat16);
        let rounded = fused(&encoder, &text, &vision);
        assert_eq!(rounded.kind(), Kind::Float);
        let off = (&rounded - &exact).square().mean(Kind::Double).sqrt().double_value(&[]);
        let spread = exact.to_kind(Kind::Double).std(false).double_value(&[]);
        assert!(off > 0.0 && off < 0.05 * spread, "{}: {off} of {spread}", folder.display());
    }
}
