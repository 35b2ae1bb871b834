package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Only who asks from the same machine is let in: over loopback, or over an address of its own.
func TestFromHere(t *testing.T) {
	h := fromHere(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, c := range []struct {
		remote, local string
		want          int
	}{
		{"127.0.0.1:5000", "127.0.0.1:8080", http.StatusNoContent},
		{"[::1]:5000", "[::1]:8080", http.StatusNoContent},
		{"10.0.0.1:5000", "10.0.0.1:8080", http.StatusNoContent},
		{"10.0.0.2:5000", "10.0.0.1:8080", http.StatusForbidden},
		{"10.0.0.2:5000", "", http.StatusForbidden},
		{"nobody", "127.0.0.1:8080", http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = c.remote
		r.Header.Set("X-Forwarded-For", "127.0.0.1") // what anyone can write
		if addr, err := net.ResolveTCPAddr("tcp", c.local); err == nil && c.local != "" {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("from %s at %s: %d, want %d", c.remote, c.local, w.Code, c.want)
		}
	}
}
