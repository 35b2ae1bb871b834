package events

import (
	"encoding/json"
	"sort"
)

// decoders holds every event in its highest version, by its permanent wire name; upcasters lead there from lower ones.
var decoders = map[string]func(json.RawMessage) (Payload, error){
	"log.opened.v1":              decode[LogOpened],
	"log.settled.v1":             decode[LogSettled],
	"log.level_raised.v1":        decode[LogLevelRaised],
	"server.announced.v1":        decode[ServerAnnounced],
	"server.removed.v1":          decode[ServerRemoved],
	"account.created.v1":         decode[AccountCreated],
	"account.deleted.v1":         decode[AccountDeleted],
	"user.created.v1":            decode[UserCreated],
	"user.revoked.v1":            decode[UserRevoked],
	"secret.set.v1":              decode[SecretSet],
	"template.created.v1":        decode[TemplateCreated],
	"template.deleted.v1":        decode[TemplateDeleted],
	"machine.added.v1":           decode[MachineAdded],
	"machine.removed.v1":         decode[MachineRemoved],
	"machine.power_wanted.v1":    decode[MachinePowerWanted],
	"machine.power_observed.v1":  decode[MachinePowerObserved],
	"machine.bmc_checked.v1":     decode[MachineBMCChecked],
	"machine.boot_served.v1":     decode[MachineBootServed],
	"machine.enrolled.v1":        decode[MachineEnrolled],
	"machine.silent.v1":          decode[MachineSilent],
	"machine.returned.v1":        decode[MachineReturned],
	"machine.contradicted.v1":    decode[MachineContradicted],
	"machine.image_wanted.v1":    decode[MachineImageWanted],
	"bootimage.registered.v1":    decode[BootimageRegistered],
	"bootimage.removed.v1":       decode[BootimageRemoved],
	"bootimage.default_set.v1":   decode[BootimageDefaultSet],
	"discovered.found.v1":        decode[DiscoveredFound],
	"discovered.dropped.v1":      decode[DiscoveredDropped],
	"discovered.added.v1":        decode[DiscoveredAdded],
	"host.registered.v1":         decode[HostRegistered],
	"host.ready.v1":              decode[HostReady],
	"host.cordoned.v1":           decode[HostCordoned],
	"host.uncordoned.v1":         decode[HostUncordoned],
	"host.orphan_found.v1":       decode[HostOrphanFound],
	"host.orphan_gone.v1":        decode[HostOrphanGone],
	"host.orphan_stop_wanted.v1": decode[HostOrphanStopWanted],
	"vm.created.v1":              decode[VMCreated],
	"vm.deleted.v1":              decode[VMDeleted],
	"vm.run_wanted.v1":           decode[VMRunWanted],
	"vm.run_granted.v1":          decode[VMRunGranted],
	"vm.grant_ended.v1":          decode[VMGrantEnded],
	"vm.domain_observed.v1":      decode[VMDomainObserved],
	"vm.step_failed.v1":          decode[VMStepFailed],
	"vm.restart_wanted.v1":       decode[VMRestartWanted],
	"vm.became_unknown.v1":       decode[VMBecameUnknown],
	"vm.became_known.v1":         decode[VMBecameKnown],
	"vm.stale_domain_found.v1":   decode[VMStaleDomainFound],
	"vm.stale_domain_ended.v1":   decode[VMStaleDomainEnded],
	"vm.resized.v1":              decode[VMResized],
	"vm.grant_resized.v1":        decode[VMGrantResized],
	"machine.storage_ready.v1":   decode[StorageReady],
	"fabric.created.v1":          decode[FabricCreated],
	"fabric.deleted.v1":          decode[FabricDeleted],
	"fabric.joined.v1":           decode[FabricJoined],
	"fabric.left.v1":             decode[FabricLeft],
	"disk.found.v1":              decode[DiskFound],
	"disk.gone.v1":               decode[DiskGone],
	"disk.exported.v1":           decode[DiskExported],
	"disk.released.v1":           decode[DiskReleased],
	"pool.created.v1":            decode[PoolCreated],
	"pool.deleted.v1":            decode[PoolDeleted],
	"pool.check_every_set.v1":    decode[PoolCheckEverySet],
	"array.created.v1":           decode[ArrayCreated],
	"array.owner_granted.v1":     decode[ArrayOwnerGranted],
	"array.owner_revoked.v1":     decode[ArrayOwnerRevoked],
	"array.owner_ended.v1":       decode[ArrayOwnerEnded],
	"array.observed.v1":          decode[ArrayObserved],
	"array.path_observed.v1":     decode[ArrayPathObserved],
	"array.deleted.v1":           decode[ArrayDeleted],
	"array.leg_replacing.v1":     decode[ArrayLegReplacing],
	"array.leg_replaced.v1":      decode[ArrayLegReplaced],
	"machine.drain_began.v1":     decode[MachineDrainBegan],
	"machine.drain_ended.v1":     decode[MachineDrainEnded],

	"array.leg_replacement_cancelled.v1": decode[ArrayLegReplacementCancelled],
	"array.leg_replacement_ended.v1":     decode[ArrayLegReplacementEnded],

	"array.fencing_began.v1":     decode[ArrayFencingBegan],
	"array.leg_fenced.v1":        decode[ArrayLegFenced],
	"array.leg_unfenced.v1":      decode[ArrayLegUnfenced],
	"array.fenced_owner_gone.v1": decode[ArrayFencedOwnerGone],
	"array.resync_set.v1":        decode[ArrayResyncSet],
	"array.sync_seen.v1":         decode[ArraySyncSeen],
	"array.resync_held.v1":       decode[ArrayResyncHeld],
	"array.check_wanted.v1":      decode[ArrayCheckWanted],
	"array.check_started.v1":     decode[ArrayCheckStarted],
	"array.checked.v1":           decode[ArrayChecked],
	"volume.created.v1":          decode[VolumeCreated],
	"volume.golden_created.v1":   decode[GoldenCreated],
	"volume.grown.v1":            decode[VolumeGrown],
	"volume.ready.v1":            decode[VolumeReady],
	"volume.fill_failed.v1":      decode[VolumeFillFailed],
	"volume.fill_retried.v1":     decode[VolumeFillRetried],
	"volume.limited.v1":          decode[VolumeLimited],
	"volume.attached.v1":         decode[VolumeAttached],
	"volume.detached.v1":         decode[VolumeDetached],
	"volume.deleted.v1":          decode[VolumeDeleted],
	"volume.wiped.v1":            decode[VolumeWiped],
	"network.created.v1":         decode[NetworkCreated],
	"network.deleted.v1":         decode[NetworkDeleted],
	"subnet.created.v1":          decode[SubnetCreated],
	"subnet.deleted.v1":          decode[SubnetDeleted],
	"subnet.address_reserved.v1": decode[SubnetAddressReserved],
	"subnet.address_released.v1": decode[SubnetAddressReleased],
	"nic.created.v1":             decode[NICCreated],
	"nic.limited.v1":             decode[NICLimited],
	"nic.deleted.v1":             decode[NICDeleted],
	"operation.started.v1":       decode[OperationStarted],
	"operation.done.v1":          decode[OperationDone],
	"operation.failed.v1":        decode[OperationFailed],
	"operation.timed_out.v1":     decode[OperationTimedOut],
}

func decode[T Payload](b json.RawMessage) (Payload, error) {
	var v T
	err := json.Unmarshal(b, &v)
	return v, err
}

func decodePayload(name string, b json.RawMessage) (Payload, error) { return present().decode(name, b) }

// Names lists the wire names of all events as they are written today, sorted.
func Names() []string {
	names := make([]string, 0, len(decoders))
	for n := range decoders {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// New makes an event of an aggregate.
func New(kind Kind, id string, version uint64, data Payload) Event {
	return Event{Ref{kind, id}, version, data.EventType(), data}
}
