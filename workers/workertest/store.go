package workertest

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"cloudengine/workers/host"
)

// Read gives a node's value. As in xenstore, a node that only has others below it is there, and empty.
func (h *Host) Read(_ context.Context, path string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return "", ErrKilled
	}
	if v, ok := h.m.Nodes[path]; ok {
		return v, nil
	}
	for p := range h.m.Nodes {
		if strings.HasPrefix(p, path+"/") {
			return "", nil
		}
	}
	return "", fmt.Errorf("%s: %w", path, host.ErrNoNode)
}

// Write sets a node.
func (h *Host) Write(_ context.Context, path, value string) error {
	return h.change("write "+path+" "+value, func() error {
		h.m.Nodes[path] = value
		return nil
	}, nil)
}

// Remove takes a node and all below it away.
func (h *Host) Remove(_ context.Context, path string) error {
	return h.change("rm "+path, func() error {
		h.removeNodes(path)
		return nil
	}, nil)
}

func (h *Host) removeNodes(path string) {
	for p := range h.m.Nodes {
		if p == path || strings.HasPrefix(p, path+"/") {
			delete(h.m.Nodes, p)
		}
	}
}

// Children lists the names below a node.
func (h *Host) Children(_ context.Context, path string) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return nil, ErrKilled
	}
	seen := map[string]bool{}
	for p := range h.m.Nodes {
		if rest, ok := strings.CutPrefix(p, path+"/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			seen[name] = true
		}
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	sort.Strings(names)
	return names, nil
}

// String shows the host: domains, then stamps.
func (h *Host) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := &strings.Builder{}
	for _, id := range h.ids() {
		g := h.m.Guests[id]
		fmt.Fprintf(b, "domain %d %s %s %s %s %d MiB weight %d\n", id, g.Name, g.UUID, g.State, g.ShutdownReason, g.MemoryMiB, g.Weight)
	}
	var paths []string
	for p := range h.m.Nodes {
		if strings.HasPrefix(p, host.StampRoot) {
			paths = append(paths, p)
		}
	}
	sort.Strings(paths)
	for _, p := range paths {
		fmt.Fprintf(b, "%s = %s\n", strings.TrimPrefix(p, host.StampRoot), h.m.Nodes[p])
	}
	fmt.Fprintf(b, "free %d of %d MiB\n", h.m.FreeMiB, h.m.TotalMiB)
	return b.String()
}

// Blobs has every file at once.
type Blobs struct{}

// Have lists none: each is fetched.
func (Blobs) Have() ([]string, error) { return nil, nil }

// Fetch does nothing.
func (Blobs) Fetch(context.Context, string, int64) error { return nil }

// Path names a file that is not there.
func (Blobs) Path(digest string) string { return "/blobs/" + digest }
