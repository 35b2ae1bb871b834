package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"cloudengine/workers/boot"
)

// TestHeld: a machine that is not known asks until it is, whatever else is answered, and only that ends it.
func TestHeld(t *testing.T) {
	asked := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hold/52:54:00:77:00:09" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		switch asked++; asked {
		case 1:
			fmt.Fprintln(w, "hold")
		case 2:
			http.Error(w, "boot", http.StatusServiceUnavailable)
		case 3:
			fmt.Fprintln(w, "unknown")
		default:
			fmt.Fprintln(w, "boot")
		}
	}))
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c := boot.Config{HTTP: web.URL, Holding: "52:54:00:77:00:09"}
	var told []string
	tell := func(word string, err error) { told = append(told, fmt.Sprint(word, err != nil)) }
	if err := held(ctx, c, time.Millisecond, tell); err != nil || asked != 4 {
		t.Errorf("ended with %v after %d questions, want none and 4", err, asked)
	}
	if len(told) != 1 || told[0] != "holdfalse" { // once a minute
		t.Errorf("told %v", told)
	}
}
