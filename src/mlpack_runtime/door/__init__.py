"""The front door: a request checked, sent to a queue or a worker, and waited for. `frontdoor` opens it."""
