package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// fakeDisk makes the image of a disk that a PC would take for one: disk FILE MIB.
func fakeDisk(ts *testscript.TestScript, args []string) {
	mib, err := strconv.Atoi(args[1])
	ts.Check(err)
	raw := make([]byte, mib<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 64 << 10 {
		raw[i] = byte(r.Uint32())
	}
	copy(raw[510:], "\x55\xaa")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o644))
}

// publish serves a file until the script ends, and sets variables to its URL and its digest: publish URL DIGEST FILE.
func publish(ts *testscript.TestScript, args []string) {
	path := ts.MkAbs(args[2])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	web := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(path))))
	ts.Defer(web.Close)
	ts.Setenv(args[0], web.URL+"/"+filepath.Base(path))
	ts.Setenv(args[1], fmt.Sprintf("%x", sha256.Sum256(raw)))
}
