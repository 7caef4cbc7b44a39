//! Metrics and the leaderboard file.
