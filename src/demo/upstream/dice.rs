//! Randomness that comes out the same each time, so that nothing of the simulation has to be stored.

/// Numbers that follow from a seed: the outputs of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014), reached directly by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dice(u64);

impl Dice {
    /// The dice of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice for one of many things: the same for the same number, and apart from all others.
    #[must_use]
    pub fn of(self, number: u64) -> Self {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.wrapping_add(GOLDEN.wrapping_mul(number.wrapping_add(1)));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(z ^ (z >> 31))
    }

    /// The number itself.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// A whole number from 0 to `below`, which is not reached; 0 when there is none.
    #[must_use]
    pub fn below(self, below: u64) -> u64 {
        self.0.checked_rem(below).unwrap_or_default()
    }

    /// A number in [0, 1).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    pub fn share(self) -> f64 {
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // The first three outputs for the seed 1234567, as its reference implementation prints them.
        let numbers = [0, 1, 2].map(|index| Dice::new(1_234_567).of(index).number());
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn shares_fill_their_range_evenly() {
        let dice = Dice::new(7);
        let mut tenths = [0; 10];
        for n in 0..10_000 {
            let share = dice.of(n).share();
            assert!((0.0..1.0).contains(&share));
            tenths[usize::try_from(dice.of(n).below(10)).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (900..1100).contains(count)), "{tenths:?}");
        assert_eq!(dice.below(0), 0);
    }
}
