//! Fuzzing that needs nothing but a stable toolchain: known inputs are altered at random and handed to what
//! parses them, for a moment in every run of the tests and as long as you like by hand.
//!
//! `DISCOX_FUZZ=600` fuzzes each target for 600 s; `DISCOX_SEED=n` begins with the random numbers of a run that
//! has failed. It does not look at coverage: the examples must reach what matters, and the targets must claim
//! something of what they are given, not only that nothing panics.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use fastrand::Rng;

/// How long a target is fuzzed unless `DISCOX_FUZZ` says otherwise: all targets together take less than a
/// minute.
const SHORT: Duration = Duration::from_secs(3);

/// Alterations of one input, at most.
const ALTERATIONS: usize = 8;

/// An altered input is not longer than this.
const LONGEST: usize = 64 * 1024;

/// Gives a target the examples, and then altered ones, until its time is over.
///
/// # Panics
/// When the target does. The input is printed, and the seed that leads to it.
pub fn fuzz(examples: &[&[u8]], target: impl Fn(&[u8])) {
    let number = |name| env::var(name).ok().and_then(|value| value.parse().ok());
    let time = number("DISCOX_FUZZ").map_or(SHORT, Duration::from_secs);
    let first: u64 = number("DISCOX_SEED").unwrap_or_else(|| fastrand::u64(..));
    examples.iter().for_each(|example| attempt(&target, example, first));
    let began = Instant::now();
    let mut seed = first;
    while began.elapsed() < time {
        let mut random = Rng::with_seed(seed);
        let input = altered(examples, &mut random);
        attempt(&target, &input, seed);
        seed = seed.wrapping_add(1);
    }
    println!("{} inputs from DISCOX_SEED={first}", seed.wrapping_sub(first));
}

/// [`fuzz`] for what parses text.
///
/// # Panics
/// As [`fuzz`].
pub fn fuzz_text(examples: &[&str], target: impl Fn(&str)) {
    let examples: Vec<&[u8]> = examples.iter().map(|example| example.as_bytes()).collect();
    fuzz(&examples, |bytes| target(&String::from_utf8_lossy(bytes)));
}

fn attempt(target: &impl Fn(&[u8]), input: &[u8], seed: u64) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("DISCOX_SEED={seed}, input: {:?}", String::from_utf8_lossy(input));
        eprintln!("in bytes: {input:?}");
        resume_unwind(panic);
    }
}

fn altered(examples: &[&[u8]], random: &mut Rng) -> Vec<u8> {
    let mut input = random.choice(examples).copied().unwrap_or_default().to_vec();
    for _ in 0..random.usize(1..=ALTERATIONS) {
        alter(&mut input, examples, random);
        input.truncate(LONGEST);
    }
    input
}

fn alter(input: &mut Vec<u8>, examples: &[&[u8]], random: &mut Rng) {
    // What parsers stumble over.
    const TELLING: [&[u8]; 24] = [
        b"",
        b"\0",
        b"\n",
        b" ",
        b"/",
        b"//",
        b":",
        b"@",
        b",",
        b".",
        b"..",
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b"-1",
        b"0",
        b"65536",
        b"18446744073709551616",
        b"1e999",
        b"null",
        "\u{feff}\u{202e}é".as_bytes(),
        b"\xff",
    ];
    let (from, to) = some_range(input.len(), random);
    match random.u8(..8) {
        0 => input[from..to].iter_mut().for_each(|byte| *byte ^= 1 << random.u8(..8)),
        1 => input[from..to].iter_mut().for_each(|byte| *byte = random.u8(..)),
        2 => drop(input.drain(from..to)),
        3 => input.truncate(from),
        4 => insert(input, from, random.choice(TELLING).unwrap_or_default()),
        5 => {
            let repeated = input[from..to].repeat(random.usize(1..32));
            insert(input, to, &repeated[..repeated.len().min(LONGEST)]);
        }
        6 => {
            let moved: Vec<u8> = input.drain(from..to).collect();
            let at = random.usize(..=input.len());
            insert(input, at, &moved);
        }
        _ => {
            let other = random.choice(examples).copied().unwrap_or_default();
            let (start, end) = some_range(other.len(), random);
            insert(input, from, &other[start..end]);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// Short ones more often than long ones.
fn some_range(length: usize, random: &mut Rng) -> (usize, usize) {
    let from = random.usize(..=length);
    let longest = if random.bool() { 4 } else { length };
    (from, from + random.usize(..=longest.min(length - from)))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::HashSet};

    use super::*;

    #[test]
    fn inputs_differ_and_come_again_by_their_seed() {
        let one = |seed| altered(&[b"some text", b"{\"a\":1}"], &mut Rng::with_seed(seed));
        let inputs: HashSet<_> = (0..1_000).map(one).collect();
        assert!(inputs.len() > 800, "{}", inputs.len());
        assert!((0..100).all(|seed| one(seed) == one(seed)));
    }

    #[test]
    #[should_panic = "found"]
    fn what_is_wrong_is_found() {
        let tried = Cell::new(0);
        fuzz(&[b"user:8080"], |input| {
            tried.set(tried.get() + 1);
            assert!(tried.get() == 1 || !input.ends_with(b"@"), "found");
        });
    }
}
