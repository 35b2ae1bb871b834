package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"golang.org/x/crypto/nacl/secretbox"
)

// ErrSecret marks errors that are the sender's: a name or a value that cannot be.
var ErrSecret = errors.New("secret refused")

// ErrNoSecret says that no value is stored under a name.
var ErrNoSecret = errors.New("no such secret")

// Secrets keeps the values of secrets sealed (NaCl secretbox) under a master key, each in a file of its own: <name>.sealed, and
// <name>.<fingerprint>.new until the log has recorded it. Its methods may be called from several goroutines of one process.
type Secrets struct {
	dir string
	key [32]byte
	mu  sync.Mutex
}

// OpenSecrets opens the directory, and the master key in keyFile (32 bytes, mode 0600), and makes both if they are not there. Who
// loses the key loses the values; who has both has the values.
func OpenSecrets(dir, keyFile string) (*Secrets, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open secrets: %w", err)
	}
	s := &Secrets{dir: dir}
	raw, err := os.ReadFile(keyFile)
	switch {
	case err == nil && len(raw) == len(s.key):
		copy(s.key[:], raw)
		return s, nil
	case err == nil:
		return nil, fmt.Errorf("read master key %s: it has %d bytes, not %d", keyFile, len(raw), len(s.key))
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if old, _ := filepath.Glob(filepath.Join(dir, "*.sealed")); len(old) > 0 {
		return nil, fmt.Errorf("master key %s is not there, but %d values are sealed with it: put it back", keyFile, len(old))
	}
	rand.Read(s.key[:])
	if err := writeFile(keyFile, s.key[:]); err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	return s, nil
}

// Seal stores a value apart and gives its fingerprint, which says nothing about it to who does not have the master key. The value
// is not used before Use. Sealing the same again is harmless.
func (s *Secrets) Seal(name string, value []byte) (fingerprint string, err error) {
	if !events.IsToken(name) {
		return "", fmt.Errorf("%w: field \"name\": want 1 to 64 of a–z, 0–9, - and _", ErrSecret)
	}
	if len(value) == 0 || len(value) > wire.MaxSecret {
		return "", fmt.Errorf("%w: field \"value\": want 1 to %d bytes", ErrSecret, wire.MaxSecret)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fingerprint = s.fingerprint(name, value)
	var nonce [24]byte
	rand.Read(nonce[:])
	box := secretbox.Seal(nonce[:], value, &nonce, &s.key)
	if err := writeFile(s.fresh(name, fingerprint), box); err != nil {
		return "", fmt.Errorf("seal secret %s: %w", name, err)
	}
	return fingerprint, nil
}

// Use makes a sealed value the secret's.
func (s *Secrets) Use(name, fingerprint string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := os.Rename(s.fresh(name, fingerprint), s.file(name))
	if errors.Is(err, os.ErrNotExist) {
		if value, err := s.open(name); err == nil && s.fingerprint(name, value) == fingerprint {
			return nil // it is in use already
		}
	}
	if err != nil {
		return fmt.Errorf("use secret %s: %w", name, err)
	}
	return syncDir(s.dir)
}

// Value opens a secret.
func (s *Secrets) Value(name string) ([]byte, error) {
	if !events.IsToken(name) {
		return nil, fmt.Errorf("open secret %q: %w", name, ErrNoSecret)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open(name)
}

func (s *Secrets) open(name string) ([]byte, error) {
	box, err := os.ReadFile(s.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open secret %s: %w (cloudengine secret set %s)", name, ErrNoSecret, name)
	}
	if err != nil {
		return nil, fmt.Errorf("open secret %s: %w", name, err)
	}
	if len(box) < 24 {
		return nil, fmt.Errorf("open secret %s: the file is too short", name)
	}
	value, ok := secretbox.Open(nil, box[24:], (*[24]byte)(box[:24]), &s.key)
	if !ok {
		return nil, fmt.Errorf("open secret %s: it was sealed with another master key, or changed", name)
	}
	return value, nil
}

func (s *Secrets) fingerprint(name string, value []byte) string {
	mac := hmac.New(sha256.New, s.key[:])
	fmt.Fprintf(mac, "fingerprint\x00%s\x00", name)
	mac.Write(value)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

func (s *Secrets) file(name string) string { return filepath.Join(s.dir, name+".sealed") }

func (s *Secrets) fresh(name, fingerprint string) string {
	return filepath.Join(s.dir, name+"."+fingerprint+".new")
}

// writeFile replaces a file of mode 0600 whole and durably.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".write-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}
