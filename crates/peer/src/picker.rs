//! Which of a member's URLs is used.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::PeerUrl;

/// The URLs of one member: the one in use stays until it fails.
#[derive(Debug)]
pub(crate) struct Picker {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    urls: Vec<PeerUrl>,
    picked: usize,
}

impl Picker {
    /// For URLs in the order of their texts. Those that cannot be parsed are left out.
    pub fn new(urls: &[String]) -> Self {
        Self {
            state: Mutex::new(State {
                urls: parse(urls),
                picked: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts again with new URLs.
    pub fn update(&self, urls: &[String]) {
        let mut state = self.lock();
        state.urls = parse(urls);
        state.picked = 0;
    }

    /// The URL to use now.
    pub fn pick(&self) -> Option<PeerUrl> {
        let state = self.lock();
        state.urls.get(state.picked).cloned()
    }

    /// Turns to the next one, unless somebody did already.
    pub fn unreachable(&self, url: &PeerUrl) {
        let mut state = self.lock();
        if state.urls.get(state.picked) == Some(url) {
            state.picked = (state.picked + 1) % state.urls.len();
        }
    }
}

fn parse(urls: &[String]) -> Vec<PeerUrl> {
    let mut urls = urls.to_vec();
    urls.sort_unstable();
    let parsed = |url: &String| match PeerUrl::parse(url) {
        Ok(url) => Some(url),
        Err(error) => {
            tracing::error!(url, error, "a peer URL cannot be used");
            None
        }
    };
    urls.iter().filter_map(parsed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_urls_are_left_in_turn_and_only_once() {
        let urls = [
            "http://b:1".to_owned(),
            "http://a:1".to_owned(),
            "nonsense".to_owned(),
        ];
        let picker = Picker::new(&urls);
        let a = picker.pick().unwrap();
        assert_eq!(a.as_str(), "http://a:1");
        picker.unreachable(&a);
        let b = picker.pick().unwrap();
        assert_eq!(b.as_str(), "http://b:1");
        // A second user of the failed one must not turn back to it.
        picker.unreachable(&a);
        assert_eq!(picker.pick(), Some(b.clone()));
        picker.unreachable(&b);
        assert_eq!(picker.pick(), Some(a));
        picker.update(&[]);
        assert_eq!(picker.pick(), None);
        picker.unreachable(&b);
    }
}
