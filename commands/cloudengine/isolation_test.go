package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cloudengine/bootimage"
	"cloudengine/commands"
	"cloudengine/commands/api/client"
	"cloudengine/events"
	"cloudengine/projections"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// cloud is a running server, its administrator, and what is needed to be others.
type cloud struct {
	t     *testing.T
	nodes []*node
	node  *node // the first
	admin *client.Client
	macs  int
	words []string // that no answer may hold
}

// newCloud starts a server that also serves boot files, of an image that nothing can boot.
func newCloud(t *testing.T, args ...string) *cloud {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	bareImage(t, image)
	n := newNode(t, "s1", append([]string{"--image", image, "--netboot-any-source"}, args...)...)
	n.start(t)
	n.ready(t)
	c := &cloud{t: t, nodes: []*node{n}, node: n}
	c.admin = c.connect(filepath.Join(n.data, adminKeyFile))
	return c
}

func bareImage(t *testing.T, dir string) {
	t.Helper()
	m := bootimage.Manifest{Kernel: "test", Packages: []bootimage.Package{}}
	write := func(name string, body []byte) {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), body, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{bootimage.XenFile, bootimage.KernelFile, bootimage.InitrdFile} {
		body := make([]byte, 64)
		write(name, body)
		m.Parts = append(m.Parts, bootimage.Part{Name: name, Size: int64(len(body)), SHA256: fmt.Sprintf("%x", sha256.Sum256(body))})
	}
	if err := m.Seal(); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	write(bootimage.ManifestFile, raw)
}

func (c *cloud) urls() string {
	var out []string
	for _, n := range c.nodes {
		out = append(out, "nats://"+n.bus)
	}
	return strings.Join(out, ",")
}

func (c *cloud) connect(keyFile string, opts ...nats.Option) *client.Client {
	c.t.Helper()
	u, err := client.Connect(c.t.Context(), c.urls(), keyFile, opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(u.Close)
	return u
}

// do sends an intent, which must be accepted.
func (c *cloud) do(kind events.Kind, verb string, args any) events.Answer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	a, err := c.admin.Do(ctx, kind, verb, args)
	if err != nil || a.Outcome.Status != events.Accepted {
		c.t.Fatalf("%s.%s: %+v, %v", kind, verb, a.Outcome, err)
	}
	return a
}

// user makes a user and gives its key file, beside the authority.
func (c *cloud) user(name, role string, account string) (keyFile string, id string) {
	c.t.Helper()
	keyFile = filepath.Join(c.node.data, name+".nk")
	public, err := client.WriteKeyFile(keyFile, name)
	if err != nil {
		c.t.Fatal(err)
	}
	args := map[string]any{"name": name, "role": role, "key": public}
	if account != "" {
		args["account"] = account
	}
	return keyFile, string(c.do(events.KindUser, "create", args).ID)
}

// agent is a machine, as one who holds its boot files can be it.
type agent struct {
	c    *cloud
	id   events.MachineID
	mac  string
	file struct {
		Token, CA string
		Bus       []string
	}
}

func (c *cloud) machine(name string) *agent {
	c.t.Helper()
	c.macs++
	a := &agent{c: c, mac: fmt.Sprintf("52:54:00:aa:00:%02x", c.macs)}
	a.id = events.MachineID(c.do(events.KindMachine, "add", map[string]any{"name": name, "macs": []string{a.mac}, "roles": []string{events.RoleHost}}).ID)
	a.boot()
	return a
}

// boot fetches boot files anew.
func (a *agent) boot() {
	a.c.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		raw, err := bootJSON("http://"+a.c.node.web, a.mac)
		if err == nil {
			err = json.Unmarshal(raw, &a.file)
		}
		if err == nil {
			return
		}
		if time.Now().After(end) {
			a.c.t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// dial connects to one server, with trust in what the boot files say.
func (a *agent) dial(url string, opts ...nats.Option) (*nats.Conn, error) {
	trust, err := client.Trust([]byte(a.file.CA))
	if err != nil {
		return nil, err
	}
	return nats.Connect(url, append([]nats.Option{trust, nats.NoReconnect(), nats.Timeout(10 * time.Second), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, opts...)...)
}

// enrol enrols with a token, as often as the log needs to hear of the served boot.
func (a *agent) enrol(token, boot string, pair nkeys.KeyPair) (events.Answer, error) {
	a.c.t.Helper()
	public, err := pair.PublicKey()
	if err != nil {
		a.c.t.Fatal(err)
	}
	var answer events.Answer
	for end := time.Now().Add(10 * time.Second); ; {
		err := a.enrolOnce(token, boot, public, &answer)
		if err == nil || !errors.Is(err, nats.ErrAuthorization) || time.Now().After(end) {
			return answer, err
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (a *agent) enrolOnce(token, boot, public string, answer *events.Answer) error {
	nc, err := a.dial("nats://"+a.c.node.bus, nats.UserInfo(events.EnrolUser, string(a.id)+"."+token), nats.CustomInboxPrefix(events.EnrolInboxPrefix(a.id)))
	if err != nil {
		return err
	}
	defer nc.Close()
	body, err := json.Marshal(events.Enrol{Machine: a.id, Token: token, Boot: boot, Key: public, Image: "test", Inventory: events.Inventory{
		CPUs: 4, MemoryMiB: 4096, Capacity: &events.Capacity{AllocatableMiB: 2048, PCPUs: 4, XenVersion: "4.17", Types: []string{"pv", "pvh"}}}})
	if err != nil {
		return err
	}
	m, err := nc.Request(events.ReportSubject(a.id, events.ReportEnrol), body, 10*time.Second)
	if err != nil {
		return err
	}
	return json.Unmarshal(m.Data, answer)
}

func newPair(t *testing.T) nkeys.KeyPair {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// asMachine connects with the key of a boot.
func (a *agent) asMachine(url string, pair nkeys.KeyPair, opts ...nats.Option) (*nats.Conn, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	return a.dial(url, append(opts, nats.Nkey(public, pair.Sign), nats.CustomInboxPrefix(events.InboxPrefix(string(a.id))))...)
}

func (a *agent) report(nc *nats.Conn, r events.Report) events.Answer {
	a.c.t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		a.c.t.Fatal(err)
	}
	m, err := nc.Request(events.ReportSubject(a.id, events.ReportState), body, 10*time.Second)
	if err != nil {
		a.c.t.Fatal(err)
	}
	var answer events.Answer
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		a.c.t.Fatal(err)
	}
	return answer
}

// rows gives all rows of all kinds but operations, as text by kind.
func (c *cloud) rows() map[events.Kind]string {
	c.t.Helper()
	out := map[events.Kind]string{}
	found, err := c.admin.Verify(c.t.Context())
	if err != nil || len(found.Broken) > 0 {
		c.t.Fatalf("the log: %q, %v", found.Broken, err)
	}
	for _, m := range projections.Models() {
		if m.Kind == events.KindOperation {
			continue
		}
		items, _, err := c.admin.List(c.t.Context(), m.Kind, events.ReadRequest{Limit: 1000, WaitFor: found.Decisions})
		if err != nil {
			c.t.Fatalf("list %s: %v", m.Kind, err)
		}
		raw, err := json.Marshal(items)
		if err != nil {
			c.t.Fatal(err)
		}
		out[m.Kind] = string(raw)
	}
	return out
}

func (c *cloud) unchanged(before map[events.Kind]string) {
	c.t.Helper()
	for kind, now := range c.rows() {
		if now != before[kind] {
			c.t.Errorf("rows of %s were\n%s\nare\n%s", kind, before[kind], now)
		}
	}
}

// TestAnotherAccountsObjects has users of one account, of every role, try every command and every question on what belongs to another
// account and to the platform. Nothing changes, and no answer names anything of theirs.
func TestAnotherAccountsObjects(t *testing.T) {
	c := newCloud(t, "--silence", "1h")
	a := c.furnish()
	own := string(c.do(events.KindAccount, "create", map[string]any{"name": "mallory-inc"}).ID)
	var mallory []*client.Client
	for _, role := range []string{events.RoleRead, events.RoleOperate, events.RoleAdmin} {
		key, _ := c.user("mallory-"+role, role, own)
		mallory = append(mallory, c.connect(key))
	}
	before := c.rows()
	if !strings.Contains(before[events.KindVM], "alpha-vm") {
		t.Fatalf("the administrator does not see it either: %v", before)
	}
	c.words = []string{"alpha-", "omega-"}
	for _, id := range a {
		c.words = append(c.words, id)
	}
	for _, m := range mallory {
		c.tryReads(m, a)
		c.tryLog(m, a)
	}
	c.words = c.words[:2]
	for _, m := range mallory {
		c.tryVerbs(m, a)
	}
	for _, m := range mallory { // what they were refused is in the log now, with the ids that they named; nothing else may be
		c.tryReads(m, map[string]string{})
		c.tryLog(m, a)
	}
	c.unchanged(before)
}

// furnish makes what belongs to account alpha, and the platform's own; all names are told apart by their beginning.
func (c *cloud) furnish() map[string]string {
	c.t.Helper()
	ids := map[string]string{}
	add := func(typ string, a events.Answer) string { ids[typ] = string(a.ID); return ids[typ] }
	account := add("AccountID", c.do(events.KindAccount, "create", map[string]any{"name": "alpha-acct"}))
	_, ids["UserID"] = c.user("alpha-ann", events.RoleOperate, account)
	blob := filepath.Join(c.t.TempDir(), "kernel")
	if err := os.WriteFile(blob, []byte("a kernel"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	kernel, err := c.admin.PutFile(c.t.Context(), blob, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	template := add("TemplateID", c.do(events.KindTemplate, "create", map[string]any{"name": "alpha-tmpl", "account": account, "type": "kernel", "kernel": kernel, "min_memory_mib": 64}))
	add("VMID", c.do(events.KindVM, "create", map[string]any{"account": account, "name": "alpha-vm", "type": "pv", "memory_mib": 64, "template": template}))
	fabric := add("FabricID", c.do(events.KindFabric, "create", map[string]any{"name": "omega-san", "transport": "iscsi", "subnet": "10.9.0.0/24"}))
	for _, n := range []string{"1", "2"} {
		node := string(c.do(events.KindMachine, "add", map[string]any{"name": "omega-node" + n, "macs": []string{"52:54:00:00:09:0" + n}, "roles": []string{events.RoleStorageNode}}).ID)
		c.do(events.KindFabric, "join", map[string]any{"fabric": fabric, "machine": node, "mac": "52:54:00:00:0a:0" + n})
	}
	add("PoolID", c.do(events.KindPool, "create", map[string]any{"name": "omega-pool", "fabric": fabric}))
	for _, typ := range []string{"DiskID", "ArrayID", "VolumeID"} { // there are none before a storage node reports: these name nothing
		ids[typ] = uuid.NewString()
	}
	host := c.machine("omega-host")
	ids["MachineID"] = string(host.id)
	wire := c.do(events.KindFabric, "create", map[string]any{"name": "omega-wire", "transport": "vxlan", "subnet": "10.9.1.0/24"}).ID
	c.do(events.KindFabric, "join", map[string]any{"fabric": wire, "machine": host.id, "mac": "52:54:00:00:0b:01"})
	network := add("NetworkID", c.do(events.KindNetwork, "create", map[string]any{"name": "alpha-net", "account": account}))
	add("SubnetID", c.do(events.KindSubnet, "create", map[string]any{"name": "alpha-subnet", "network": network, "cidr": "10.0.0.0/24"}))
	add("NICID", c.do(events.KindNIC, "create", map[string]any{"vm": ids["VMID"], "network": network}))
	pair, boot := newPair(c.t), uuid.NewString()
	if answer, err := host.enrol(host.file.Token, boot, pair); err != nil || answer.Outcome.Status != events.Accepted {
		c.t.Fatalf("enrol: %+v, %v", answer.Outcome, err)
	}
	nc, err := host.asMachine("nats://"+c.node.bus, pair)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	host.report(nc, events.Report{Machine: host.id, Boot: boot, Counter: 1, Complete: true, Domains: []events.DomainReport{}})
	c.do(events.KindVM, "start", map[string]any{"vm": ids["VMID"]})
	return ids
}

// leaks wants that an answer tells nothing of others. What was asked is not news.
func (c *cloud) leaks(who, what, asked, answer string) {
	c.t.Helper()
	for _, w := range c.words {
		if strings.Contains(answer, w) && !strings.Contains(asked, w) {
			c.t.Errorf("%s learns of %q by %s: %.400s", who, w, what, answer)
		}
	}
}

func (c *cloud) tryVerbs(m *client.Client, ids map[string]string) {
	c.t.Helper()
	for _, v := range commands.Verbs() {
		kind, verb, _ := strings.Cut(v.Name, ".")
		args := hostileArgs(c.t, v.Args, ids)
		for _, dry := range []bool{true, false} {
			body, err := json.Marshal(events.Request{ID: client.NewID(), Args: args, DryRun: dry})
			if err != nil {
				c.t.Fatal(err)
			}
			subject := "do." + m.Actor() + "." + kind + "." + verb
			wait := 20 * time.Second
			if strings.HasSuffix(m.Actor(), events.RoleRead) {
				wait = 50 * time.Millisecond
			}
			msg, err := m.Conn().Request(subject, body, wait)
			if strings.HasSuffix(m.Actor(), events.RoleRead) {
				if err == nil {
					c.t.Errorf("%s is answered %s", subject, msg.Data)
				}
				break // the bus does not let it send; once is enough
			}
			if err != nil {
				c.t.Fatalf("%s: %v", subject, err)
			}
			var answer events.Answer
			if err := json.Unmarshal(msg.Data, &answer); err != nil {
				c.t.Fatal(err)
			}
			if o := answer.Outcome; o.Status != events.Refused || len(answer.Events) > 0 || v.Member && o.Code == events.CodeInvalid {
				c.t.Errorf("%s %s is answered %s", subject, args, msg.Data)
			}
			c.leaks(m.Actor(), v.Name, string(body), string(msg.Data))
		}
	}
}

// hostileArgs fills the arguments of a command with what belongs to others.
func hostileArgs(t *testing.T, typ reflect.Type, ids map[string]string) json.RawMessage {
	t.Helper()
	v := reflect.New(typ).Elem()
	for i := range typ.NumField() {
		f := v.Field(i)
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		id, known := ids[f.Type().Name()]
		switch {
		case known:
			f.SetString(id)
		case f.Kind() == reflect.String:
			f.SetString(map[string]string{"name": "stolen", "type": "kernel", "cmdline": "", "cidr": "10.66.0.0/24", "address": "10.0.0.9"}[name])
		case f.Kind() == reflect.Int && strings.Contains(name, "mib"):
			f.SetInt(64)
		case f.Kind() == reflect.Int && name == "vcpus":
			f.SetInt(1)
		case f.Type() == reflect.TypeFor[events.Blob]() && name == "kernel":
			f.Set(reflect.ValueOf(events.Blob{SHA256: strings.Repeat("ab", 32), Size: 8}))
		}
		if name == "type" && typ == reflect.TypeFor[commands.CreateVM]() {
			f.SetString("pv")
		}
	}
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (c *cloud) tryReads(m *client.Client, ids map[string]string) {
	c.t.Helper()
	refs := []string{"alpha-acct", "alpha-ann", "alpha-tmpl", "alpha-vm", "alpha-net", "alpha-vm-eth0", "omega-host", "alpha-", "%", "_", "' OR 1=1 -- "}
	for _, id := range ids {
		refs = append(refs, id, id[:8], id+".1.1")
	}
	for _, model := range projections.Models() {
		for _, at := range []string{"", "now"} {
			for _, ref := range refs {
				c.ask(m, "read."+m.Actor()+"."+string(model.Kind)+".get", events.ReadRequest{ID: ref, Account: ids["AccountID"], At: at})
				c.ask(m, "read."+m.Actor()+"."+string(model.Kind)+".get", events.ReadRequest{ID: ref, At: at})
			}
			c.ask(m, "read."+m.Actor()+"."+string(model.Kind)+".list", events.ReadRequest{Limit: 1000, At: at})
			for _, column := range model.Table.Columns {
				for _, value := range []string{ids["AccountID"], "alpha-acct", "", "1"} {
					c.ask(m, "read."+m.Actor()+"."+string(model.Kind)+".list", events.ReadRequest{Limit: 1000, Filter: map[string]string{column: value}, At: at})
				}
			}
		}
	}
}

func (c *cloud) tryLog(m *client.Client, ids map[string]string) {
	c.t.Helper()
	read := "read." + m.Actor() + ".log."
	kinds := map[string]events.Kind{"AccountID": events.KindAccount, "UserID": events.KindUser, "TemplateID": events.KindTemplate, "VMID": events.KindVM, "MachineID": events.KindMachine,
		"NetworkID": events.KindNetwork, "SubnetID": events.KindSubnet, "NICID": events.KindNIC}
	for typ, kind := range kinds {
		for _, verb := range []string{"history", "why", "diff", "watch"} {
			c.ask(m, read+verb, map[string]any{"kind": kind, "id": ids[typ]})
		}
		c.ask(m, read+"why", map[string]any{"intent": ids[typ]})
	}
	for number := range 24 {
		c.ask(m, read+"why", map[string]any{"number": number + 1})
	}
	for _, verb := range []string{"verify", "status", "head", "leaves", "prove", "export", "audit", "at", "moment", "snapshot"} {
		for _, body := range []map[string]any{{}, {"number": 5}, {"after": 0}} {
			c.ask(m, read+verb, body)
		}
	}
	for _, subject := range []string{"read." + m.Actor() + ".cloud.verify", "read." + m.Actor() + ".cloud.progress", "read." + m.Actor() + ".projection.status",
		"read." + m.Actor() + ".projection.parked", "put." + m.Actor() + ".projection", "put." + m.Actor() + ".secret"} {
		c.ask(m, subject, map[string]any{})
	}
	c.ask(m, "console."+m.Actor()+".vm", map[string]any{"vm": ids["VMID"]})
	for _, ref := range []string{ids["MachineID"], "omega-host"} {
		c.ask(m, "console."+m.Actor()+".host", map[string]any{"host": ref})
		c.ask(m, "console."+m.Actor()+".host", map[string]any{"host": ref, "all": true})
	}
}

// ask asks once. No answer is a good answer.
func (c *cloud) ask(m *client.Client, subject string, question any) {
	c.t.Helper()
	body, err := json.Marshal(question)
	if err != nil {
		c.t.Fatal(err)
	}
	inbox, err := m.Conn().SubscribeSync(m.Conn().NewInbox())
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = inbox.Unsubscribe() }()
	if err := m.Conn().PublishRequest(subject, inbox.Subject, body); err != nil {
		c.t.Fatal(err)
	}
	if err := m.Conn().Flush(); err != nil {
		c.t.Fatal(err)
	}
	if err := m.Conn().LastError(); err != nil && strings.Contains(err.Error(), `"`+subject+`"`) {
		return // the bus does not let it
	}
	answer, err := inbox.NextMsg(2 * time.Second)
	if err != nil {
		return
	}
	c.leaks(m.Actor(), subject, string(body), string(answer.Data))
}
