use api::raftpb::ConfState;

/// The conf state as JSON, the form the backend's `meta` bucket keeps it in.
pub fn conf_state_json(state: &ConfState) -> Vec<u8> {
    let mut out = String::from("{");
    for (key, ids) in [
        ("voters", &state.voters),
        ("learners", &state.learners),
        ("voters_outgoing", &state.voters_outgoing),
        ("learners_next", &state.learners_next),
    ] {
        if ids.is_empty() {
            continue;
        }
        out.push('"');
        out.push_str(key);
        out.push_str("\":[");
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        out.push_str(&ids.join(","));
        out.push_str("],");
    }
    out.push_str("\"auto_leave\":");
    out.push_str(if state.auto_leave { "true}" } else { "false}" });
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_an_observed_record() {
        let state = ConfState {
            voters: vec![7073261771659850901],
            learners: vec![7203406588679386457],
            ..ConfState::default()
        };
        assert_eq!(
            conf_state_json(&state),
            br#"{"voters":[7073261771659850901],"learners":[7203406588679386457],"auto_leave":false}"#
        );
        assert_eq!(
            conf_state_json(&ConfState::default()),
            br#"{"auto_leave":false}"#
        );
    }
}
