package main

import (
	"encoding/json"
	"strconv"

	"cloudengine/commands"
	"cloudengine/events"
)

// A rule says of a field what its Go type and comment do not: the tests hold it against commands.Check. Limits apply to what is sent to us
// alone; values are examples elsewhere, so that a new value breaks no reader.
type rule struct {
	says     string // if the field has no comment of its own
	instead  bool   // also if it has: the comment speaks of Go
	values   string // a constant; the values are those of its block
	open     bool   // other values are not refused
	kind     string // JSON type
	format   string
	pattern  string
	min, max json.Number

	minItems, maxItems, maxLength *uint64

	nullable bool
}

func n(i int) json.Number { return json.Number(strconv.Itoa(i)) }

func count(i uint64) *uint64 { return &i }

var limits = commands.ArgsLimits()

const (
	sha256Pattern  = `^[0-9a-f]{64}$`
	cmdlinePattern = `^[ !#-&(-\[\]-~]*$` // printable ASCII without quotes and backslash
	macPattern     = `^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$`
	portPattern    = `(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})`
	hostPattern    = `(\[[0-9A-Fa-f:.%a-z]{2,64}\]|[^:\[\]]{1,253})`
	nkeyPattern    = `^U[A-Z2-7]{55}$`
	digestOfToken  = "SHA-256 (hex) of the token that was served"
)

// named is a field that holds a name.
func named(says string) rule { return rule{says: says, pattern: limits.Name} }

// rules are by package.Type.Field.
var rules = map[string]rule{
	"commands.CreateAccount.Name":         named("name, unique among accounts: 1 to 63 of a–z, 0–9 and \"-\""),
	"commands.CreateUser.Name":            named("name, unique for ever: the actor in subjects and in the log"),
	"commands.CreateUser.Key":             {pattern: nkeyPattern},
	"commands.CreateUser.Role":            {says: "what the user may do", values: "events.RoleRead"},
	"commands.SetSecret.Name":             named("name, by which a machine's BMC refers to it"),
	"commands.SetSecret.Fingerprint":      {says: "keyed digest of the value, made by the server: says nothing about it", pattern: `^[a-z0-9_-]{1,64}$`},
	"commands.CreateTemplate.Name":        named("name, unique in its account"),
	"commands.CreateTemplate.Type":        {says: "what it is made of", values: "events.TemplateKernel"},
	"commands.CreateTemplate.Kernel":      {says: "kernel, uploaded before; type kernel alone"},
	"commands.CreateTemplate.Ramdisk":     {says: "ramdisk, uploaded before; leave it out if there is none; type kernel alone"},
	"commands.CreateTemplate.Cmdline":     {says: "kernel's command line, unless the VM has its own: printable ASCII without quotes and backslashes", pattern: cmdlinePattern, maxLength: count(1024)},
	"commands.CreateTemplate.MinMemory":   {says: "least RAM of a VM that is made from it, in MiB", min: "1", max: n(limits.MemoryMiB)},
	"commands.CreateTemplate.Disk":        {says: "image, uploaded before: one stream of Zstandard; type disk alone"},
	"commands.CreateTemplate.DiskContent": {says: "SHA-256 of the image when it is unpacked, 64 hexadecimal digits in lower case; type disk alone; left out: copies of it are not compared", pattern: `^([0-9a-f]{64})?$`},
	"commands.CreateTemplate.DiskBytes":   {says: "size of the image when it is unpacked, a multiple of 512; type disk alone", min: "0", max: n(commands.MaxImageBytes)},
	"commands.AddMachine.Name":            named("name, unique among machines"),
	"commands.AddMachine.MACs":            {pattern: macPattern, minItems: count(1), maxItems: count(16)},
	"commands.AddMachine.Serial":          {maxLength: count(64)},
	"commands.AddMachine.Roles":           {says: "what the machine is for", values: "events.RoleHost", minItems: count(1), maxItems: count(1)},
	"commands.AddMachine.BMC":             {says: "how its power is reached; without one it cannot be, and a silent machine's VMs cannot be proven over"},
	"commands.OpenLog.Term":               {says: "the log's present term and 1", min: "1", max: "18446744073709551615"},
	"commands.OpenLog.Cause":              {says: "users say reopened", values: "events.CauseCreated"},
	"commands.SettleLog.Term":             {min: "1", max: "18446744073709551615"},
	"commands.PowerMachine.Action":        {says: "what is to be done; cycle is off, proof, on", values: "events.PowerOn"},
	"commands.StopOrphan.UUID":            {says: "UUID of the domain", format: "uuid", pattern: uuidPattern},
	"commands.AdoptOrphan.UUID":           {says: "UUID of the domain", format: "uuid", pattern: uuidPattern},
	"commands.AdoptOrphan.VM":             {says: "id of the VM that it becomes the domain of; it must have none"},
	"commands.RaiseLevel.Level":           {min: "2", max: "1000000"},
	"commands.ServerRef.Server":           named("name of the server"),
	"commands.CreateVM.Name":              named("name, unique in its account"),
	"commands.CreateVM.Type":              {says: "domain type", values: "events.TypePV"},
	"commands.CreateVM.VCPUs":             {says: "virtual CPUs; 0 or left out: " + strconv.Itoa(limits.DefaultVCPUs), min: "0", max: n(limits.VCPUs)},
	"commands.CreateVM.MemoryMiB":         {says: "RAM in MiB; at least what the template needs", min: "1", max: n(limits.MemoryMiB)},
	"commands.CreateVM.Template":          {says: "id of the template; what it holds now is kept with the VM"},
	"commands.CreateVM.Cmdline":           {says: "kernel's command line; left out: the template's", pattern: cmdlinePattern, maxLength: count(1024)},
	"commands.CreateVM.MaxVCPUs":          {min: "0", max: n(limits.VCPUs)},
	"commands.CreateVM.Keys":              {pattern: commands.KeyForm, maxItems: count(16), maxLength: count(4096)},
	"commands.CreateVM.Pool":              {says: "pool in which its disk is made from the template, which must be of type disk; left out: no disk is made"},
	"commands.CreateVM.DiskMiB":           {says: "size of that disk in MiB; 0 or left out: as large as the template's image", min: "0", max: "67108864"},
	"commands.ResizeVM.MemoryMiB":         {says: "RAM in MiB; 0 or left out: as it is", min: "0", max: n(limits.MemoryMiB)},
	"commands.ResizeVM.VCPUs":             {says: "virtual CPUs; 0 or left out: as they are", min: "0", max: n(limits.VCPUs)},
	"commands.ResizeVM.MaxVCPUs":          {says: "up to which vCPUs can be added while it runs, from its next start on; 0 or left out: as it is", min: "0", max: n(limits.VCPUs)},
	"commands.StartVM.Host":               {says: "host to start on; left out: the platform chooses"},
	"commands.ShutdownVM.Timeout":         {says: "seconds that the guest has, then its domain is destroyed; 0 or left out: " + strconv.Itoa(limits.ShutdownDefaultS), min: "0", max: "3600"},

	"events.UserCreated.Role":              {says: "what the user may do", values: "events.RoleRead"},
	"events.UserCreated.Name":              {says: "name, the actor in subjects and decisions"},
	"events.TemplateCreated.Kernel":        {says: "kernel"},
	"events.TemplateCreated.Ramdisk":       {says: "ramdisk, if there is one"},
	"events.TemplateCreated.Cmdline":       {says: "kernel's command line"},
	"events.TemplateCreated.Type":          {says: "what it is made of", values: "events.TemplateKernel", open: true},
	"events.VMCreated.Boot":                {says: "what the guest boots from: disk; left out: its kernel", open: true},
	"events.TemplateCreated.MinMemory":     {says: "least RAM of a VM that is made from it, in MiB"},
	"events.Blob.SHA256":                   {says: "SHA-256 (hex) of the file: its name", pattern: sha256Pattern},
	"events.Blob.Size":                     {says: "bytes", min: "1", max: n(events.MaxBlob)},
	"events.BMC.Address":                   {pattern: "^" + hostPattern + ":" + portPattern + "$"},
	"events.BMC.User":                      {says: "user at the BMC, at most 16 bytes", pattern: `^[\s\S]{1,16}$`},
	"events.BMC.Secret":                    {pattern: limits.Name},
	"events.MachineAdded.Roles":            {says: "what the machine is for", values: "events.RoleHost"},
	"events.MachineAdded.BMC":              {says: "how its power is reached"},
	"events.MachinePowerWanted.Action":     {says: "what is to be done", values: "events.PowerOn"},
	"events.MachinePowerObserved.State":    {says: "what the BMC says", values: "events.PowerIsOn"},
	"events.MachinePowerObserved.Error":    {says: "why it could not be done or read"},
	"events.MachineBMCChecked.Healthy":     {says: "whether all was right"},
	"events.MachineBootServed.Image":       {says: "version of the boot image"},
	"events.MachineBootServed.MAC":         {says: "MAC address that asked"},
	"events.MachineEnrolled.Image":         {says: "version of the boot image that runs"},
	"events.HostReady.Term":                {says: "term of the log in which it reported"},
	"events.VMCreated.Type":                {says: "domain type", values: "events.TypePV"},
	"events.VMCreated.VCPUs":               {says: "virtual CPUs"},
	"events.VMCreated.MemoryMiB":           {says: "RAM in MiB"},
	"events.VMCreated.Kernel":              {says: "kernel, kept from the template"},
	"events.VMCreated.Ramdisk":             {says: "ramdisk, kept from the template, if there is one"},
	"events.VMCreated.Cmdline":             {says: "kernel's command line"},
	"events.VMRunWanted.Want":              {says: "what is wanted from now on", values: "events.WantRunning"},
	"events.VMRunWanted.Stop":              {values: "events.StopShutdown"},
	"events.VMGrantEnded.Proof":            {says: "what proves it", values: "events.ProofCleanEnd"},
	"events.VMGrantEnded.How":              {values: "events.EndedDestroyed"},
	"events.VMRunGranted.Epoch":            {says: "number of the grant, higher than that of every earlier one of this VM"},
	"events.VMRunGranted.MemoryMiB":        {says: "RAM in MiB"},
	"events.VMRunGranted.VCPUs":            {says: "virtual CPUs"},
	"events.VMDomainObserved.State":        {values: "events.DomainRunning"},
	"events.VMStaleDomainFound.State":      {says: "what it was seen to do", values: "events.DomainRunning"},
	"events.VMStepFailed.Step":             {says: "step that was tried"},
	"events.VMStepFailed.Message":          {says: "why it could not be done"},
	"events.VMStepFailed.Retryable":        {says: "whether the host goes on trying"},
	"events.VMRestartWanted.Restarts":      {says: "how many restarts there should have been under this grant"},
	"events.OperationStarted.Object":       {says: "what it is about, as kind/id"},
	"events.OperationStarted.Verb":         {says: "what was asked for"},
	"events.OperationFailed.Message":       {says: "why"},
	"events.LogOpened.Term":                {says: "term that begins"},
	"events.Capacity.Types":                {nullable: true},
	"events.DomainReport.UUID":             {format: "uuid"},
	"events.DomainReport.DomID":            {says: "number that Xen gave it", min: "0"},
	"events.DomainReport.State":            {values: "events.DomainRunning", open: true},
	"events.DomainEnded.How":               {says: "how it ended", values: "events.EndedDestroyed", open: true},
	"events.Outcome.Status":                {says: "how it was decided", values: "events.Accepted"},
	"events.Outcome.Code":                  {values: "events.CodeInvalid"},
	"events.Request.Args":                  {says: "arguments of the verb: schemas/json/commands/<kind>.<verb>.json", kind: "object"},
	"events.Request.Expect":                {says: "what the client saw when it resolved a name to an id"},
	"events.Request.Override":              {values: "commands.GuardEndProof"},
	"events.Request.Reason":                {maxLength: count(1000)},
	"events.Request.Cause":                 {says: "what this follows from, in the caller's words", maxLength: count(1000)},
	"events.Request.Correlation":           {says: "what belongs together, in the caller's words", maxLength: count(1000)},
	"events.Request.DryRun":                {says: "answer what would be decided now, with its events; store nothing"},
	"events.ReadRequest.Limit":             {min: "0", max: "1000"},
	"events.ReadRequest.Account":           {says: "only what belongs to this account: id or name"},
	"events.ReadAnswer.Items":              {says: "rows, with the columns of the SQL table", nullable: true},
	"events.ReadAnswer.Next":               {says: "after which id the next page begins; empty: that was all"},
	"events.Answer.Outcome":                {says: "what was decided"},
	"events.Answer.Time":                   {says: "time of the decision"},
	"events.FeedMessage.Number":            {says: "number of the decision"},
	"events.FeedMessage.Index":             {says: "index of the event in its decision, from 0"},
	"events.FeedMessage.Time":              {format: "date-time"},
	"events.Block.Format":                  {says: "version of the block format"},
	"events.Block.Term":                    {says: "term of the log; never falls"},
	"events.Block.Time":                    {says: "when it was decided; never before the block before"},
	"events.Block.Decisions":               {says: "decisions, numbered without gaps from first"},
	"events.Decision.Args":                 {says: "arguments as they came"},
	"events.Event.Aggregate":               {says: "what it is about, as kind/id"},
	"events.Event.Type":                    {says: "wire name", instead: true},
	"events.Event.Data":                    {says: "payload: schemas/json/events/<type>.json"},
	"events.Enrol.Token":                   {says: "one-time token of the served boot; never stored"},
	"events.Enrol.TokenSHA256":             {says: "set by the endpoint in place of the token; a machine leaves it out"},
	"events.Enrol.Image":                   {says: "version of the boot image that runs", maxLength: count(128)},
	"events.Report.Complete":               {says: "whether every domain that is there is listed"},
	"events.Enrol.Key":                     {pattern: nkeyPattern},
	"desired.Document.Version":             {says: "version of the document format"},
	"desired.Document.Kind":                {says: "kind of the object", values: "desired.KindDomain"},
	"desired.Document.ID":                  {says: "id of the object"},
	"desired.Document.Generation":          {says: "orders the documents of one object; an older one is ignored"},
	"desired.Document.Body":                {says: "what is wanted: desired_domain.json or desired_orphan.json, by kind"},
	"desired.Domain.Want":                  {says: "what is wanted", values: "desired.Running"},
	"desired.Domain.Type":                  {says: "domain type", values: "events.TypePV"},
	"desired.Domain.MemoryMiB":             {says: "RAM in MiB"},
	"desired.Domain.VCPUs":                 {says: "virtual CPUs"},
	"desired.Seed.Hostname":                {says: "name of the VM"},
	"desired.Orphan.UUID":                  {says: "UUID of the domain", format: "uuid"},
	"desired.Orphan.Want":                  {says: "always absent"},
	"events.MachineBootServed.TokenSHA256": {says: digestOfToken},
	"events.MachineEnrolled.TokenSHA256":   {says: digestOfToken},
}

// fieldSays is for fields that mean the same wherever they have no comment, by their Go name.
var fieldSays = map[string]string{
	"Account":        "id of the account",
	"Actor":          "who asked: a user's name, machine:<id> or system:<component>",
	"Boot":           "boot id of the machine (a UUID, new with every boot of its kernel)",
	"CPUModel":       "model of its CPUs",
	"CPUs":           "logical CPUs",
	"Capacity":       "what the host can give to domains",
	"Cause":          "number of the decision that this one follows from, or the caller's word",
	"Cmdline":        "kernel's command line",
	"Correlation":    "what belongs together, in the caller's words",
	"Counter":        "counts within the term",
	"DomID":          "number that Xen gave the domain",
	"Domain":         "the domain as the host sees it",
	"Domains":        "domains that are there",
	"Driver":         "Linux driver",
	"Ended":          "domains of grants that are gone for good",
	"Epoch":          "number of the run grant",
	"Error":          "why there is no answer",
	"Event":          "the event",
	"Events":         "what follows from it, in order",
	"Expect":         "what the client saw when it resolved a name to an id",
	"FreeMiB":        "RAM that it can still give, in MiB",
	"Generation":     "generation of the document",
	"HostName":       "name of the host",
	"Inventory":      "what the machine is made of",
	"Kernel":         "kernel",
	"Kind":           "kind of the object",
	"Link":           "whether the cable carries a signal",
	"MAC":            "MAC address",
	"MemoryMiB":      "RAM in MiB",
	"Message":        "for people",
	"NICs":           "network interfaces",
	"Name":           "name",
	"Number":         "number of a decision",
	"Object":         "what it is about, as kind/id",
	"Outcome":        "how it was decided",
	"Override":       "guards that were overridden",
	"PCPUs":          "physical CPUs that Xen has",
	"Product":        "product name (DMI)",
	"Ramdisk":        "ramdisk",
	"Reason":         "reason that was given; permanent",
	"Restarts":       "restarts under this grant so far",
	"Retryable":      "whether the host goes on trying",
	"Serial":         "serial number (DMI)",
	"ShutdownReason": "why the guest shut down",
	"Stamped":        "whether it carries our stamp",
	"State":          "what the domain is seen to do",
	"Step":           "step that was tried",
	"Steps":          "steps that failed",
	"TemplateName":   "name of the template",
	"Term":           "term of the log",
	"Type":           "wire name of the event",
	"UUID":           "UUID of the domain",
	"VCPUs":          "virtual CPUs",
	"Verb":           "what is asked for",
	"Weight":         "weight in Xen's credit scheduler",
	"XenVersion":     "version of Xen",
}

// verbSays is for commands that share their arguments' type with others.
var verbSays = map[string]string{
	"server.remove":  "Forgets a server that is gone for good. One that runs makes itself known again.",
	"machine.remove": "Makes a machine unknown. Refused while VMs run on it, or may run on it.",
	"host.cordon":    "Takes a host out of placement; what runs goes on.",
	"host.uncordon":  "Puts a host back into placement.",
	"vm.stop":        "Destroys the VM's domain at once, and wants it stopped from now on.",
	"vm.reboot":      "Restarts the VM on its host, under the same grant.",
	"vm.pause":       "Pauses the VM; its memory stays.",
	"vm.resume":      "Lets a paused VM go on.",
	"vm.delete":      "Ends a stopped VM for good.",
}
