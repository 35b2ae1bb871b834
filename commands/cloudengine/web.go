package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// listenHTTP takes the address before anything else is started, since it is the one most often taken.
func (s *server) listenHTTP(ctx context.Context) error {
	if s.opts.http == "" {
		return nil
	}
	var err error
	if s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.opts.http); err != nil {
		return fmt.Errorf("%w (choose another address with --http)", err)
	}
	s.parts.onStop("http listener", func() error {
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// startHTTP serves health and, if it is switched on, what machines boot.
func (s *server) startHTTP(context.Context) error {
	if s.listener == nil {
		return s.tellEndpoints("")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.Handle("GET /metrics", s.metrics())
	if err := s.startNetboot(s.listener.Addr().String(), mux); err != nil {
		return err
	}
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	s.parts.run("http", func(ctx context.Context) error { return serveHTTP(ctx, web, s.listener) })
	return s.tellEndpoints("http://" + s.listener.Addr().String())
}

func serveHTTP(ctx context.Context, web *http.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := web.Shutdown(stopping)
	if errors.Is(err, context.DeadlineExceeded) {
		err = web.Close() // machines that load an image will ask again
	}
	<-failed
	return err
}

// health answers 200 while this server can do its work, else 503 and why.
func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	st := s.plane.Dispatch.Status()
	answer := map[string]any{
		"name": s.opts.name, "active": st.Active, "applied": st.Applied, "queue": st.Queue,
		"read_models": s.projector.Applied(), "feed": s.deriver.Published(), "version": version(),
	}
	code := http.StatusOK
	if err := s.plane.Health(); err != nil {
		code, answer["error"] = http.StatusServiceUnavailable, err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // who asked is gone, or not
}

// endpointsFile says where a running server is reached, for programs that start one with port 0.
const endpointsFile = "endpoints.json"

func (s *server) tellEndpoints(web string) error {
	path := s.path(endpointsFile)
	raw, err := json.Marshal(map[string]any{"bus": s.plane.Bus.ClientURL(), "http": web, "pid": os.Getpid()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	s.parts.onStop("endpoints file", func() error { return os.Remove(path) })
	return nil
}
