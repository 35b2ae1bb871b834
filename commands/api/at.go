package api

import "sync"

// turns lets each user ask about the past a few times at once, so that one cannot have all the folding done for himself.
type turns struct {
	mu sync.Mutex
	by map[string]int
}

// maxTurns is how many questions about the past one user may have under way.
const maxTurns = 2

func (t *turns) begin(user string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by[user] >= maxTurns {
		return false
	}
	if t.by == nil {
		t.by = map[string]int{}
	}
	t.by[user]++
	return true
}

func (t *turns) end(user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by[user]--; t.by[user] == 0 {
		delete(t.by, user)
	}
}
