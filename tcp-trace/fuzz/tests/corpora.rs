//! Every committed input through its target, without libFuzzer; and inputs that are near them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tcp_trace_fuzz::TARGETS;

/// More than a committed input may have.
const LARGEST: u64 = 20_000;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder("corpus").join(target)).unwrap();
    entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder("fuzz_targets")), targets);
    assert_eq!(names(&folder("corpus")), targets);
    assert!(names(&folder("dictionaries")).is_subset(&targets));
    for (name, _) in TARGETS {
        for entry in fs::read_dir(folder("corpus").join(name)).unwrap() {
            let entry = entry.unwrap();
            assert!(entry.metadata().unwrap().len() < LARGEST, "{}", entry.path().display());
        }
    }
}

#[test]
fn every_committed_input_passes() {
    for (name, target) in TARGETS {
        for input in inputs(name) {
            target(&input);
        }
        target(&[]);
    }
}

/// Not a search: it shows that what stands beside the inputs is as harmless as they are.
#[test]
fn inputs_with_one_byte_changed_or_cut_off_anywhere_pass() {
    let mut random = 1_u64;
    for (name, target) in TARGETS {
        for mut input in inputs(name) {
            for _ in 0..20 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(random >> 33).unwrap() % (input.len() + 1);
                target(&input[..at]);
                if let Some(byte) = input.get_mut(at) {
                    let before = std::mem::replace(byte, (random >> 20) as u8);
                    target(&input);
                    input[at] = before;
                }
            }
        }
    }
}
