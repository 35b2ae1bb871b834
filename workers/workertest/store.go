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
	v, ok := h.m.Nodes[path]
	if !ok && len(h.below[path]) == 0 {
		return "", fmt.Errorf("%s: %w", path, host.ErrNoNode)
	}
	return v, nil
}

// Write sets a node.
func (h *Host) Write(_ context.Context, path, value string) error {
	return h.change("write "+path+" "+value, func() error {
		h.setNode(path, value)
		return nil
	}, nil)
}

// setNode sets a node and enters it with its parents, up to the first that knows it.
func (h *Host) setNode(path, value string) {
	h.m.Nodes[path] = value
	h.enter(path)
}

func (h *Host) enter(path string) {
	for {
		i := strings.LastIndexByte(path, '/')
		if i <= 0 || h.below[path[:i]][path[i+1:]] {
			return
		}
		if h.below[path[:i]] == nil {
			h.below[path[:i]] = map[string]bool{}
		}
		h.below[path[:i]][path[i+1:]] = true
		path = path[:i]
	}
}

// Remove takes a node and all below it away.
func (h *Host) Remove(_ context.Context, path string) error {
	return h.change("rm "+path, func() error {
		h.removeNodes(path)
		return nil
	}, nil)
}

func (h *Host) removeNodes(path string) {
	for name := range h.below[path] {
		h.removeNodes(path + "/" + name)
	}
	delete(h.m.Nodes, path)
	delete(h.below, path)
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		delete(h.below[path[:i]], path[i+1:])
	}
}

// Children lists the names below a node.
func (h *Host) Children(_ context.Context, path string) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return nil, ErrKilled
	}
	names := make([]string, 0, len(h.below[path]))
	for n := range h.below[path] {
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
