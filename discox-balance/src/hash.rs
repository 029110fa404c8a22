//! The one hash function of this crate: the same in every process, so that `Hash` agrees everywhere.

/// A key for [`Policy::Hash`](crate::Policy::Hash) out of bytes. The same in every process and version.
///
/// ```
/// assert_eq!(discox_balance::hash_key(b"user-7"), discox_balance::hash_key(b"user-7"));
/// assert_ne!(discox_balance::hash_key(b"user-7"), discox_balance::hash_key(b"user-8"));
/// ```
pub fn hash_key(bytes: &[u8]) -> u64 {
    // FNV-1a spreads the bytes, `mix` the bits.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

/// The finaliser of SplitMix64: every bit of the input moves half of the output.
#[inline]
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The score of an endpoint for a key (weighted rendezvous, Schindelhauer and Schomaker 2005): the
/// highest wins, and one that comes or goes moves only its own share of the keys.
#[inline]
pub(crate) fn score(key: u64, endpoint: u64, weight: u32) -> f64 {
    // 53 bits, in (0, 1)
    let unit = ((mix(key ^ endpoint) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -unit.ln()
}
