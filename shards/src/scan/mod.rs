//! Kernels that look at every byte.
//!
//! Guarantees: each kernel gives the same result on every processor; what it runs on is decided once per process, from what
//! the processor has and the environment allows. No kernel reads outside the slice it was given. Knows bytes and JSON and where an event lies, nothing of what events mean.

pub mod escape;
pub mod json;

pub use escape::escape_json_into;

/// The environment variable that names the highest tier to use: to see what another processor would do, or to go around a
/// fault of one tier. Without it the processor decides.
pub const TIER_VARIABLE: &str = "TAILWATER_TIER";

/// What a kernel runs on, from the plainest up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Plain code, on any processor.
    Portable,
    /// 16 bytes at a time; every x86-64 has it.
    Sse2,
    /// 32 bytes at a time, with byte shuffles.
    Avx2,
    /// 32 or 64 bytes at a time, with byte compression.
    Avx512,
}

impl Tier {
    /// All tiers, plainest first.
    pub const ALL: [Tier; 4] = [Tier::Portable, Tier::Sse2, Tier::Avx2, Tier::Avx512];

    /// Whether this processor has it.
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

    /// Whether this processor has it.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    pub fn is_available(self) -> bool {
        self == Tier::Portable
    }

    /// What [`TIER_VARIABLE`] calls it.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Portable => "portable",
            Tier::Sse2 => "sse2",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
        }
    }

    /// The tier of that name.
    fn named(name: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// The highest tier that the environment allows. An error is a sentence for the user; [`Tier::best`] takes it for no limit.
    pub fn highest() -> Result<Tier, String> {
        let Some(name) = std::env::var_os(TIER_VARIABLE) else { return Ok(Tier::Avx512) };
        name.to_str().and_then(Tier::named).ok_or_else(|| {
            let names = Tier::ALL.map(Tier::name).join(", ");
            format!("{TIER_VARIABLE} is {name:?}, and no tier is called so; take one of {names}, or leave it out for the best")
        })
    }

    /// The best that this processor has and the environment allows.
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
