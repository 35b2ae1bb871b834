package power

import (
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
)

// guard stands between the IPMI library and the network. The library takes an answer for true whose integrity code it has not
// checked, a session without any if a response says so, and bytes that make it panic in a goroutine of its own. Behind the guard it
// sees only well-formed packets, algorithms that it asked for itself, and, once the session is open, packets that carry the
// session's integrity code and a rising sequence number (IPMI 2.0, sections 13.6, 13.28.4, 6.12.13). All others count as lost.
type guard struct {
	net.Conn
	user, password string

	mu          sync.Mutex
	opened      bool    // an Open Session Request was sent
	expect      byte    // type of the answer that the key exchange waits for; 0 if none
	algorithms  [3]byte // authentication, integrity, confidentiality that were asked for
	session     [4]byte // the console's session id
	consoleRand []byte
	role        byte
	bmcRand     []byte
	guid        []byte
	k1          []byte // integrity key; set when RAKP Message 3 was sent
	sequence    uint32 // of the last packet that was let in
}

// Offsets in an RMCP+ packet (section 13.6) and payload types (table 13-16).
const (
	atAuthType = 4
	atType     = 5
	atSession  = 6
	atSequence = 10
	atLength   = 14
	atPayload  = 16

	rmcpPlus = 0x06

	typeIPMI         = 0x00
	typeSOL          = 0x01
	typeOpenRequest  = 0x10
	typeOpenResponse = 0x11
	typeRAKP1        = 0x12
	typeRAKP2        = 0x13
	typeRAKP3        = 0x14
	typeRAKP4        = 0x15

	flagEncrypted     = 0x80
	flagAuthenticated = 0x40
)

// Read gives the next packet that may be let in. What may not is dropped; the connection's deadline bounds the wait.
func (g *guard) Read(p []byte) (int, error) {
	for {
		n, err := g.Conn.Read(p)
		if err != nil {
			return n, err
		}
		g.mu.Lock()
		err = g.admit(p[:n])
		g.mu.Unlock()
		if err == nil {
			return n, nil
		}
	}
}

// Write notes what the session's key will be made of, and sends.
func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	err := g.note(p)
	g.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// GUID is the BMC's, from the key exchange: 32 hex digits, or empty before it.
func (g *guard) GUID() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return hex.EncodeToString(g.guid)
}

func (g *guard) note(p []byte) error {
	if len(p) < atPayload || p[atAuthType] != rmcpPlus {
		return nil
	}
	body := p[atPayload:]
	switch p[atType] {
	case typeOpenRequest:
		if len(body) < 32 {
			return errors.New("send open session request: it is too short")
		}
		g.opened, g.k1, g.sequence, g.bmcRand, g.guid = true, nil, 0, nil, nil
		g.algorithms = [3]byte{body[12], body[20], body[28]}
		g.session, g.expect = [4]byte(body[4:8]), typeOpenResponse
	case typeRAKP1:
		if len(body) < 28 {
			return errors.New("send RAKP message 1: it is too short")
		}
		g.consoleRand, g.role = append([]byte(nil), body[8:24]...), body[24]
		g.expect = typeRAKP2
	case typeRAKP3:
		g.expect = typeRAKP4
		return g.deriveKey()
	}
	return nil
}

func (g *guard) deriveKey() error {
	auth := types.AuthAlg(g.algorithms[0])
	sik, err := crypto.DeriveSIK(auth, g.consoleRand, g.bmcRand, g.role, g.user, crypto.PadPassword20([]byte(g.password)))
	if err != nil {
		return fmt.Errorf("derive session key: %w", err)
	}
	if g.k1, err = crypto.DeriveK1(auth, sik); err != nil {
		return fmt.Errorf("derive integrity key: %w", err)
	}
	return nil
}

var errNotAdmitted = errors.New("packet is not of this session")

// admit says whether a packet may be let in, and keeps what the key exchange brings.
func (g *guard) admit(p []byte) error {
	if len(p) < 5 || p[0] != 0x06 || p[3] != 0x07 { // RMCP 1.0, class IPMI
		return errNotAdmitted
	}
	if p[atAuthType] != rmcpPlus {
		return g.admit15(p)
	}
	if len(p) < atPayload {
		return errNotAdmitted
	}
	size := int(binary.LittleEndian.Uint16(p[atLength:]))
	if len(p) < atPayload+size {
		return errNotAdmitted
	}
	body := p[atPayload : atPayload+size]
	switch p[atType] {
	case typeOpenResponse, typeRAKP2, typeRAKP4:
		return g.admitSetup(p[atType], p[atSession:atLength], body)
	case typeIPMI | flagEncrypted | flagAuthenticated, typeSOL | flagEncrypted | flagAuthenticated:
		return g.admitSession(p, size)
	}
	return errNotAdmitted
}

// admit15 lets in the answer to Get Channel Authentication Capabilities, which comes before all else in the format of IPMI 1.5.
func (g *guard) admit15(p []byte) error {
	const payload = 14
	if g.opened || len(p) < payload || p[atAuthType] != 0 || p[9]|p[10]|p[11]|p[12] != 0 {
		return errNotAdmitted
	}
	if size := int(p[13]); size < 8 || len(p) < payload+size {
		return errNotAdmitted
	}
	return nil
}

// admitSetup lets in the one answer that the key exchange waits for. The library verifies all of it but the algorithms.
func (g *guard) admitSetup(kind byte, ids, body []byte) error {
	if kind != g.expect || len(body) < 2 || [8]byte(ids) != [8]byte{} {
		return errNotAdmitted
	}
	if body[1] != 0 { // an error code: the login fails
		g.expect = 0
		return nil
	}
	if len(body) < 8 || [4]byte(body[4:8]) != g.session {
		return errNotAdmitted
	}
	switch kind {
	case typeOpenResponse:
		if len(body) < 36 || [3]byte{body[16], body[24], body[32]} != g.algorithms {
			return errNotAdmitted
		}
	case typeRAKP2:
		if len(body) < 40 {
			return errNotAdmitted
		}
		g.bmcRand, g.guid = append([]byte(nil), body[8:24]...), append([]byte(nil), body[24:40]...)
	}
	g.expect = 0
	return nil
}

// admitSession lets in what carries the session's integrity code.
func (g *guard) admitSession(p []byte, size int) error {
	integrity := types.IntegrityAlg(g.algorithms[1])
	codeSize, known := crypto.IntegrityAuthCodeLen(integrity)
	signed := len(p) - codeSize
	if g.k1 == nil || !known || codeSize == 0 || signed < atPayload+size+2 || [4]byte(p[atSession:atSequence]) != g.session {
		return errNotAdmitted
	}
	if size < 32 || size%16 != 0 { // AES-CBC-128: an initialization vector and at least one block
		return errNotAdmitted
	}
	want, err := crypto.SessionIntegrityAuthCode(integrity, p[atAuthType:signed], g.k1, g.password)
	if err != nil || !hmac.Equal(want, p[signed:]) {
		return errNotAdmitted
	}
	sequence := binary.LittleEndian.Uint32(p[atSequence:])
	if sequence <= g.sequence {
		return errNotAdmitted
	}
	g.sequence = sequence
	return nil
}
