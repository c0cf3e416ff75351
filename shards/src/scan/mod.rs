//! Functions that process every byte.
//!
//! Guarantees: each function gives the same result on every processor. The tier is selected once per process, from the features
//! of the processor and the environment. No function reads outside the slice that it was given. Knows bytes, JSON and the
//! positions of events, but not what events mean.

pub mod escape;
pub mod json;

pub use escape::escape_json_into;

/// The environment variable with the highest tier to use: to see how another processor would behave, or to avoid a defect of
/// one tier. Without it, the processor decides.
pub const TIER_VARIABLE: &str = "TAILWATER_TIER";

/// The processor features that the code uses, from the plainest up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Plain code, on any processor.
    Portable,
    /// 16 bytes at a time. Every x86-64 processor supports it.
    Sse2,
    /// 32 bytes at a time, with byte shuffles.
    Avx2,
    /// 32 or 64 bytes at a time, with byte compression.
    Avx512,
}

impl Tier {
    /// All tiers, plainest first.
    pub const ALL: [Tier; 4] = [Tier::Portable, Tier::Sse2, Tier::Avx2, Tier::Avx512];

    /// Whether this processor supports it.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    pub fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Tier::Portable | Tier::Sse2 => true,
            Tier::Avx2 => {
                has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt") && has!("pclmulqdq")
            }
            Tier::Avx512 => {
                has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512vl")
                    && has!("avx512vbmi2")
                    && Tier::Avx2.is_available()
            }
        }
    }

    /// Whether this processor supports it.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    pub fn is_available(self) -> bool {
        self == Tier::Portable
    }

    /// Its name in [`TIER_VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Tier::Portable => "portable",
            Tier::Sse2 => "sse2",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
        }
    }

    /// The tier with that name.
    fn named(name: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// The highest tier that the environment allows. An error is a sentence for the user. [`Tier::best`] treats it as no limit.
    pub fn highest() -> Result<Tier, String> {
        let Some(name) = std::env::var_os(TIER_VARIABLE) else { return Ok(Tier::Avx512) };
        name.to_str().and_then(Tier::named).ok_or_else(|| {
            let names = Tier::ALL.map(Tier::name).join(", ");
            format!("{TIER_VARIABLE} is {name:?}, which is not a tier: set it to one of {names}, or unset it to use the best")
        })
    }

    /// The best tier that this processor supports and the environment allows.
    pub fn best() -> Tier {
        static BEST: std::sync::OnceLock<Tier> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| {
            let highest = Tier::highest().unwrap_or(Tier::Avx512);
            let usable = |tier: &Tier| *tier <= highest && tier.is_available();
            Tier::ALL.into_iter().rfind(usable).unwrap_or(Tier::Portable)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_have_names_of_their_own() {
        for tier in Tier::ALL {
            assert_eq!(Tier::named(tier.name()), Some(tier));
        }
        assert_eq!(Tier::named("AVX2"), None);
    }

    #[test]
    fn best_tier_is_the_last_that_is_available_and_allowed() {
        let highest = Tier::highest().expect("the tests name a tier that there is, or none");
        let usable: Vec<Tier> = Tier::ALL.into_iter().filter(|tier| tier.is_available() && *tier <= highest).collect();
        assert_eq!(usable.last(), Some(&Tier::best()));
    }
}
