use aws_lc_rs::{constant_time, digest};
use base64::alphabet;
use base64::engine::general_purpose::{self, GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine as _};

/// Longest password bcrypt takes, in bytes.
pub const PASSWORD_MAX: usize = 72;

const SALT: usize = 16;
const SALT_TEXT: usize = 22;
/// Bytes of the hash that are kept, for historical reasons not all.
const HASH: usize = 23;
/// Shortest text that can be a hash.
const TEXT_MIN: usize = 59;

/// bcrypt has its own alphabet. What Go's decoder accepts beyond the standard is accepted here.
const TEXT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// How much work a hash takes: `2^cost` rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost(u32);

impl Cost {
    const DEFAULT: u32 = 10;
    const MIN: u32 = 4;
    const MAX: u32 = 31;

    /// `--bcrypt-cost`; what bcrypt does not know (below 4, above 31) becomes 10 with a warning.
    pub fn new(cost: u32) -> Self {
        if (Self::MIN..=Self::MAX).contains(&cost) {
            return Self(cost);
        }
        tracing::warn!(
            "min-cost" = Self::MIN,
            "max-cost" = Self::MAX,
            "default-cost" = Self::DEFAULT,
            "given-cost" = cost,
            "use default bcrypt cost instead of the invalid given cost"
        );
        Self::default()
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self(Self::DEFAULT)
    }
}

/// A password that cannot be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Longer than [`PASSWORD_MAX`].
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
}

impl From<HashError> for api::Error {
    fn from(error: HashError) -> Self {
        Self::other(api::Code::Unknown, error.to_string())
    }
}

/// Hashes a password into bcrypt's text form with prefix `$2a$`. Takes about 70 ms of CPU at the default cost. The
/// salt must be random.
pub fn hash(password: &str, cost: Cost, salt: [u8; SALT]) -> Result<String, HashError> {
    if password.len() > PASSWORD_MAX {
        return Err(HashError::TooLong);
    }
    let hash = digest_of(password.as_bytes(), cost.0, salt);
    Ok(format!("$2a${:02}${}{hash}", cost.0, TEXT.encode(salt)))
}

/// Whether a password has this hash. Only the first 72 bytes count, as in Go. A text that is no hash, such as the
/// empty one, fits no password.
pub fn verify(password: &str, hash: &[u8]) -> bool {
    let Some((cost, salt, expected)) = parse(hash) else {
        return false;
    };
    let computed = digest_of(password.as_bytes(), cost, salt);
    constant_time::verify_slices_are_equal(computed.as_bytes(), expected).is_ok()
}

/// Text of bcrypt's output. The password's terminating zero byte belongs to it.
fn digest_of(password: &[u8], cost: u32, salt: [u8; SALT]) -> String {
    let mut key = Vec::with_capacity(PASSWORD_MAX);
    key.extend(password.iter().copied().chain([0]).take(PASSWORD_MAX));
    let output = bcrypt::bcrypt(cost, salt, &key);
    key.fill(0);
    TEXT.encode(&output[..HASH])
}

/// Cost, salt and the rest of a text `$2` *minor version, if any* `$` *cost* `$` *salt, hash*.
fn parse(text: &[u8]) -> Option<(u32, [u8; SALT], &[u8])> {
    if text.len() < TEXT_MIN {
        return None;
    }
    let rest = text.strip_prefix(b"$2")?;
    let rest = if rest[0] == b'$' {
        &rest[1..]
    } else {
        rest[1..].strip_prefix(b"$")?
    };
    let (cost, rest) = rest.split_at_checked(2)?;
    let cost: u32 = std::str::from_utf8(cost).ok()?.parse().ok()?;
    let (salt, hash) = rest.strip_prefix(b"$")?.split_at_checked(SALT_TEXT)?;
    let salt = TEXT.decode(salt).ok()?.try_into().ok()?;
    (Cost::MIN..=Cost::MAX)
        .contains(&cost)
        .then_some((cost, salt, hash))
}

/// A hash as requests carry it: base64 of the text.
pub fn wrap_hash(hash: &str) -> String {
    general_purpose::STANDARD.encode(hash)
}

pub(crate) fn unwrap_hash(text: &str) -> Option<bytes::Bytes> {
    general_purpose::STANDARD.decode(text).ok().map(Into::into)
}

/// A salt for a password that the log carries in plain, so that all members store the same hash. Where the log is
/// read by somebody who should not, a salt that can be guessed is the smaller problem.
pub(crate) fn derived_salt(username: &str, index: u64) -> [u8; SALT] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&index.to_be_bytes());
    context.update(username.as_bytes());
    let mut salt = [0; SALT];
    salt.copy_from_slice(&context.finish().as_ref()[..SALT]);
    salt
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts made by other programs: from the test vectors of jBCrypt and
    /// crypt_blowfish.
    #[test]
    fn knows_hashes_of_others() {
        for (password, text) in [
            (
                "",
                "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.",
            ),
            (
                "a",
                "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
            ),
            (
                "abc",
                "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
            ),
            (
                "U*U",
                "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
            (
                "U*U",
                "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
        ] {
            assert!(verify(password, text.as_bytes()), "{text}");
            assert!(!verify("b", text.as_bytes()));
            let (cost, salt, _) = parse(text.as_bytes()).unwrap();
            let own = hash(password, Cost(cost), salt).unwrap();
            assert_eq!(own, text.replace("$2y$", "$2a$"));
        }
    }

    #[test]
    fn what_is_no_hash_fits_no_password() {
        let good = hash("x", Cost(4), [7; 16]).unwrap();
        assert!(verify("x", good.as_bytes()));
        for bad in [
            String::new(),
            good[..58].to_owned(),
            format!("{good}."),
            good.replace("$2a$04$", "$2a$03$"),
            good.replace("$2a$04$", "$2a$32$"),
            good.replace("$2a$04$", "$2a$4$$"),
            good.replace("$2a$", "$1a$"),
            good.replace("$2a$", "$2aa$"),
            "$".repeat(70),
        ] {
            assert!(!verify("x", bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn long_passwords_are_refused_when_set_and_cut_when_checked() {
        let longest = "x".repeat(72);
        let hash_text = hash(&longest, Cost(4), [1; 16]).unwrap();
        assert!(verify(&longest, hash_text.as_bytes()));
        let longer = format!("{longest}y");
        assert_eq!(hash(&longer, Cost(4), [1; 16]), Err(HashError::TooLong));
        assert!(verify(&longer, hash_text.as_bytes()));
        assert!(!verify(&longest[1..], hash_text.as_bytes()));
    }

    #[test]
    fn a_cost_out_of_range_becomes_the_default() {
        let costs = [0, 3, 4, 31, 32].map(|cost| Cost::new(cost).0);
        assert_eq!(costs, [10, 10, 4, 31, 10]);
    }
}
